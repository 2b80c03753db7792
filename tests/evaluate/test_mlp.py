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


@pytest.mark.slow
def test_the_size_of_features_does_not_matter():
  """Nor do those that are off in training and on in the test."""
  (z, labels), (other, told) = quadrants(1000, 0), quadrants(500, 1)
  scale, shift = np.array([1e4, 1e-3, 1]), np.array([5e4, 1, -7])
  found = mlp.evaluate(z, labels, other, told, width=16, rounds=5)
  assert found["top1"] > 0.8
  scaled = mlp.evaluate(z * scale + shift, labels, other * scale + shift, told, width=16, rounds=5)
  assert scaled["top1"] == pytest.approx(found["top1"], abs=0.02)
  off, on = np.zeros((1000, 8)), np.random.default_rng(2).normal(size=(500, 8)) * 0.01
  louder = mlp.evaluate(np.hstack([z, off]), labels, np.hstack([other, on]), told, width=16, rounds=5)
  assert louder["top1"] > 0.8


@pytest.mark.slow
def test_the_best_round_is_kept():
  """Labels with noise that the network learns by heart: what it is after many rounds is worse than what is kept."""
  rng = np.random.default_rng(0)
  z = rng.normal(size=(2200, 10)).astype(np.float32)
  clean = (z[:, 0] > 0).astype(int)
  noisy = np.where(rng.random(200) < 0.3, 1 - clean[:200], clean[:200])
  score = lambda **options: mlp.evaluate(z[:200], noisy, z[200:], clean[200:], width=200, **options)["top1"]
  late = score(rounds=1, steps=3000)
  assert score(rounds=30, steps=100) > late + 0.05


def test_what_is_not_a_number_is_never_right():
  z, labels = np.full((40, 2), np.nan), np.array([0] * 32 + [1] * 8)
  assert mlp.evaluate(z, labels, z, labels, rounds=1, steps=1)["top1"] == 0


def test_features_that_do_not_fit_are_refused():
  z = np.zeros((5, 2))
  with pytest.raises(ValueError, match=r"0 or more, for each of 5 features; found \(3,\), 0 to 0"):
    mlp.evaluate(z, np.zeros(3, int), z, np.zeros(5, int))
  with pytest.raises(ValueError, match=r"0 or more, for each of 5 features; found \(5,\), -1 to -1"):
    mlp.evaluate(z, np.zeros(5, int), z, np.full(5, -1))
  with pytest.raises(ValueError, match=r"features \[m d\] and \[n d\]; found \(5, 2\) and \(5, 1\)"):
    mlp.evaluate(z, np.zeros(5, int), z[:, :1], np.zeros(5, int))
  with pytest.raises(ValueError, match="4 training features for an MLP; legal: 5 or more"):
    mlp.evaluate(z[:4], np.zeros(4, int), z, np.zeros(5, int))
