import numpy as np
import pytest

from vljax.evaluate import probe


@pytest.fixture(scope="module")
def blobs():
  """Three classes in five dimensions that overlap a little."""
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, 400)
  centres = rng.normal(size=(3, 5)) * 1.5
  return (centres[labels] + rng.normal(size=(400, 5))).astype(np.float32), labels


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_the_solution_is_a_minimum(blobs, penalty):
  """The gradient in float64 is nothing against its value at zero."""
  z, labels = blobs
  found = probe.fit(z, labels, penalty)

  def gradient(weight, bias):
    p = np.exp(z.astype(np.float64) @ weight + bias)
    p = p / p.sum(1, keepdims=True) - np.eye(3)[labels]
    return np.vstack([z.T @ p / len(z) + penalty / len(z) * weight, p.mean(0)])

  at_zero = np.abs(gradient(np.zeros((5, 3)), np.zeros(3))).max()
  assert np.abs(gradient(found.weight, found.bias)).max() < 1e-3 * at_zero


def test_a_stronger_penalty_makes_smaller_weights(blobs):
  sizes = [np.linalg.norm(probe.fit(*blobs, p).weight) for p in (0.01, 1.0, 100.0)]
  assert sizes == sorted(sizes, reverse=True)


def test_the_sweep_chooses_on_held_out_examples(blobs):
  z, labels = blobs
  noise = np.random.default_rng(1).normal(size=(400, 200)).astype(np.float32)
  wide = np.hstack([z, noise])
  chosen = probe.evaluate(wide[:150], labels[:150], wide[150:], labels[150:], penalties=(1e-4, 1.0, 100.0))
  weak = probe.evaluate(wide[:150], labels[:150], wide[150:], labels[150:], penalties=(1e-4,))
  assert chosen["penalty"] > 1e-4
  assert chosen["top1"] > weak["top1"]
  assert chosen["top1/chance"] == pytest.approx(1 / 3)


def test_what_is_not_a_number_is_never_right(blobs):
  z, labels = blobs
  assert probe.evaluate(z, labels, np.full_like(z, np.nan), labels, penalties=(1.0,), ks=(1,))["top1"] == 0


def test_labels_that_do_not_fit_are_refused(blobs):
  with pytest.raises(ValueError, match="one of 2 classes for each of 400 features"):
    probe.fit(*blobs, 1.0, classes=2)
