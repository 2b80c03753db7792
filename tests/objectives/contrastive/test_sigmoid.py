import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.objectives.contrastive import sigmoid_contrastive


def numpy_loss(image, text, scale, bias):
  """Algorithm 1 of the paper, times the number of pairs."""
  logits = scale * np.asarray(image, np.float64) @ np.asarray(text, np.float64).T + bias
  signs = 2 * np.eye(len(logits)) - 1
  return np.log1p(np.exp(-signs * logits)).sum()


def units(seed, n=24, d=8):
  z = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
  return jnp.asarray(z / np.linalg.norm(z, axis=1, keepdims=True))


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (1.0, 0.0), (14.3, 2.0)])
def test_equals_the_definition(scale, bias):
  loss, metrics = sigmoid_contrastive(units(0), units(1), scale, bias)
  np.testing.assert_allclose(loss, numpy_loss(units(0), units(1), scale, bias), rtol=1e-5)
  assert metrics["bias"] == bias


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["plain", "tiled"])
def test_gradients_of_scale_and_bias_equal_numerical_ones(implementation):
  image, text = units(0), units(1)
  f = lambda scale, bias: sigmoid_contrastive(image, text, scale, bias, implementation=implementation)[0]
  grads = jax.grad(f, (0, 1))(5.0, -2.0)
  eps = 1e-5
  for got, (ds, db) in zip(grads, ((eps, 0), (0, eps)), strict=True):
    difference = numpy_loss(image, text, 5 + ds, -2 + db) - numpy_loss(image, text, 5 - ds, -2 - db)
    np.testing.assert_allclose(got, difference / (2 * eps), rtol=1e-4)


@pytest.mark.slow
def test_is_stable_for_extreme_scores():
  loss, grad = jax.value_and_grad(lambda s: sigmoid_contrastive(units(0), units(1), s, 0.0)[0])(1e4)
  assert np.isfinite(loss)
  assert np.isfinite(grad)
