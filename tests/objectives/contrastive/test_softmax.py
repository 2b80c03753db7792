import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import parallel
from vljax.objectives.contrastive import softmax_contrastive


def numpy_loss(image, text, scale, smoothing=0.0):
  """The definition, with the full target matrix."""
  logits = scale * np.asarray(image, np.float64) @ np.asarray(text, np.float64).T
  n = len(logits)
  target = (1 - smoothing) * np.eye(n) + smoothing / n

  def cross_entropy(logits):
    top = logits.max(1, keepdims=True)
    return -(target * (logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True)))).sum()

  return 0.5 * (cross_entropy(logits) + cross_entropy(logits.T))


def units(seed, n=24, d=8):
  z = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
  return jnp.asarray(z / np.linalg.norm(z, axis=1, keepdims=True))


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_equals_the_definition(scale, smoothing):
  loss, metrics = softmax_contrastive(units(0), units(1), scale, label_smoothing=smoothing)
  np.testing.assert_allclose(loss, numpy_loss(units(0), units(1), scale, smoothing), rtol=1e-5)
  assert 0 <= metrics["accuracy"] <= 1
  assert metrics["scale"] == pytest.approx(scale)


@pytest.mark.slow
def test_perfect_pairs():
  z = jnp.eye(8)
  loss, metrics = softmax_contrastive(z, z, 100.0)
  assert loss < 1e-6
  assert metrics["accuracy"] == 1


@pytest.mark.slow
def test_is_stable_where_exp_overflows():
  loss, grad = jax.value_and_grad(lambda s: softmax_contrastive(units(0), units(1), s)[0])(1e4)
  assert np.isfinite(loss)
  assert np.isfinite(grad)


@pytest.mark.slow
def test_takes_bfloat16_and_computes_in_float32():
  loss, _ = softmax_contrastive(jnp.asarray(units(0), jnp.bfloat16), jnp.asarray(units(1), jnp.bfloat16), 10.0)
  assert loss.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_equal_numerical_ones(smoothing):
  image, text = units(0, 6, 4), units(1, 6, 4)
  f = lambda image, scale: softmax_contrastive(image, text, scale, label_smoothing=smoothing)[0]
  grads = jax.grad(f, (0, 1))(image, 5.0)
  image = np.asarray(image, np.float64)
  eps = 1e-5
  numerical = np.zeros_like(image)
  for i in np.ndindex(*image.shape):
    nudge = np.zeros(image.shape)
    nudge[i] = eps
    numerical[i] = (
      (numpy_loss(image + nudge, text, 5, smoothing) - numpy_loss(image - nudge, text, 5, smoothing)) / eps / 2
    )
  np.testing.assert_allclose(grads[0], numerical, atol=2e-4)
  slope = (numpy_loss(image, text, 5 + eps, smoothing) - numpy_loss(image, text, 5 - eps, smoothing)) / eps / 2
  np.testing.assert_allclose(grads[1], slope, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 1, 1), (4, 2, 1), (2, 2, 2)])
def test_any_sharding_gives_the_same_number(shape):
  mesh = jax.make_mesh(shape, ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
  f = jax.value_and_grad(lambda image, text: softmax_contrastive(image, text, 14.3, label_smoothing=0.1)[0], (0, 1))
  whole = f(units(0), units(1))
  with parallel.use(mesh):
    where = parallel.sharding(mesh, parallel.DEFAULT, ("batch", None), (24, 8))
    parts = jax.jit(f)(jax.device_put(units(0), where), jax.device_put(units(1), where))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), whole, parts)
