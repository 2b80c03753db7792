import numpy as np
import pytest

from vljax.evaluate import mlp, probe


def quadrants(n, seed):
  """Two classes that no line parts: do the first two of three numbers have one sign?"""
  z = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32) * (1, 10, 100) + (0, 0, 5)
  return z.astype(np.float32), (z[:, 0] * z[:, 1] > 0).astype(int)


@pytest.mark.slow
def test_it_learns_what_a_linear_probe_cannot():
  train, test = quadrants(3000, 0), quadrants(1000, 1)
  assert probe.evaluate(*train, *test, penalties=(1.0,), ks=(1,))["top1"] < 0.6
  found = mlp.evaluate(*train, *test, width=32)
  assert found["top1"] > 0.95
  assert found["top1/chance"] == max(test[1].mean(), 1 - test[1].mean())


def test_the_chance_is_that_of_the_most_frequent_class():
  z, labels = np.random.default_rng(0).normal(size=(40, 2)), np.array([0] * 32 + [1] * 8)
  found = mlp.evaluate(z, labels, z[20:], labels[20:], rounds=1, steps=1)
  assert found["top1/chance"] == pytest.approx(0.6)


def test_noise_is_not_learned():
  """Labels that features say nothing of: as good as a coin on others, though the training ones can be learned."""
  rng = np.random.default_rng(0)
  z, labels = rng.normal(size=(400, 20)), rng.integers(0, 2, 400)
  assert 0.4 < mlp.evaluate(z[:200], labels[:200], z[200:], labels[200:], rounds=3)["top1"] < 0.6


def test_features_that_do_not_fit_are_refused():
  z = np.zeros((4, 2))
  with pytest.raises(ValueError, match=r"a class for each of 4 features; found \(3,\)"):
    mlp.evaluate(z, np.zeros(3, int), z, np.zeros(4, int))
  with pytest.raises(ValueError, match="4 training features have no part of 20%"):
    mlp.evaluate(z, np.zeros(4, int), z, np.zeros(4, int))
