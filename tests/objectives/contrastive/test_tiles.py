"""Tiles and rings against the whole matrix: the same numbers, and memory that grows with n."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import parallel
from vljax.objectives.contrastive import choice, sigmoid_contrastive, softmax_contrastive, tiles

LOSSES = {
  "softmax": (softmax_contrastive, (14.3,)),
  "smoothed": (functools.partial(softmax_contrastive, label_smoothing=0.1), (14.3,)),
  "sigmoid": (sigmoid_contrastive, (10.0, -10.0)),
}
MESHES = [(8, 1, 1), (4, 2, 1), (2, 2, 2)]


@pytest.fixture(autouse=True)
def small_tiles(request, monkeypatch):
  if "at_size" not in request.node.name:
    monkeypatch.setattr(tiles, "TILE", 16)


def mesh(shape):
  return jax.make_mesh(shape, ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)


def pairs(n, d=32, dtype=jnp.float32, agreement=0.3):
  rng = np.random.default_rng(n)
  image = rng.normal(size=(n, d))
  text = agreement * image + rng.normal(size=(n, d))
  return [jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype) for x in (image, text)]


def value_and_gradients(name, implementation):
  loss, scalars = LOSSES[name]
  f = lambda *arguments: loss(*arguments, implementation=implementation)
  return jax.jit(jax.value_and_grad(f, tuple(range(2 + len(scalars))), has_aux=True)), [
    jnp.float32(s) for s in scalars
  ]


def assert_equal(got, want):
  (value, metrics), gradients = got
  (expected, expected_metrics), expected_gradients = want
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  assert metrics.keys() == expected_metrics.keys()
  np.testing.assert_allclose(metrics["accuracy"], expected_metrics["accuracy"], atol=1e-6)
  for a, b in zip(gradients, expected_gradients, strict=True):
    assert a.dtype == b.dtype
    error = 1e-6 if a.ndim else 1e-5  # a scalar's is one sum of n * n terms of both signs, in another order
    np.testing.assert_allclose(a, b, rtol=0, atol=error * float(jnp.abs(b).max()))


@pytest.mark.parametrize("n", [16, 48, 53])
@pytest.mark.parametrize("name", LOSSES)
def test_tiles_equal_the_whole(name, n):
  f, scalars = value_and_gradients(name, "tiled")
  plain, _ = value_and_gradients(name, "plain")
  assert_equal(f(*pairs(n), *scalars), plain(*pairs(n), *scalars))


@pytest.mark.slow
@pytest.mark.parametrize("agreement", [0.0, 3.0])
@pytest.mark.parametrize("name", LOSSES)
def test_tiles_equal_the_whole_at_size_2560(name, agreement):
  """Of new and of learned pairs, with tiles as they are: sums of thousands of terms in another order."""
  f, scalars = value_and_gradients(name, "tiled")
  plain, _ = value_and_gradients(name, "plain")
  features = pairs(2560, 256, agreement=agreement)
  assert_equal(f(*features, *scalars), plain(*features, *scalars))


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", MESHES)
def test_a_ring_equals_the_whole(shape, name):
  n = 160
  ring, scalars = value_and_gradients(name, "ring")
  plain, _ = value_and_gradients(name, "plain")
  want = plain(*pairs(n), *scalars)
  with parallel.use(mesh(shape)):
    where = parallel.sharding(mesh(shape), parallel.DEFAULT, ("batch", None), (n, 32))
    got = ring(*jax.device_put(pairs(n), where), *scalars)
  assert_equal(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["plain", "tiled"])
@pytest.mark.parametrize("agreement", [0.0, 3.0])
def test_neither_new_nor_learned_pairs_lose_digits(form, agreement):
  """Against float64, where the own score is one of many, and where its softmax is nearly 1."""
  image, text = pairs(48, agreement=agreement)
  want = float64_gradient(image, text, 30.0)
  found = jax.grad(lambda image: softmax_contrastive(image, text, 30.0, implementation=form)[0])(image)
  assert np.abs(np.asarray(found) - want).max() < 1e-5 * np.abs(want).max()


def float64_gradient(image, text, scale):
  image, text = np.asarray(image, np.float64), np.asarray(text, np.float64)
  p = np.exp(scale * image @ text.T)
  slope = 0.5 * (p / p.sum(1, keepdims=True) + p / p.sum(0)) - np.eye(len(p))
  return scale * slope @ text


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_features_are_summed_in_float32(name):
  f, scalars = value_and_gradients(name, "tiled")
  plain, _ = value_and_gradients(name, "plain")
  (value, _), gradients = f(*pairs(48, dtype=jnp.bfloat16), *scalars)
  (expected, _), expected_gradients = plain(*pairs(48, dtype=jnp.bfloat16), *scalars)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  assert [g.dtype for g in gradients[:2]] == [jnp.bfloat16] * 2
  for a, b in zip(gradients, expected_gradients, strict=True):
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    np.testing.assert_allclose(a, b, rtol=0, atol=2**-8 * np.abs(b).max())  # one rounding to bfloat16


def test_a_ring_passes_features_on_and_gathers_none():
  n = 64
  ring, scalars = value_and_gradients("softmax", "ring")
  with parallel.use(mesh((8, 1, 1))):
    where = parallel.sharding(mesh((8, 1, 1)), parallel.DEFAULT, ("batch", None), (n, 32))
    text = ring.lower(*jax.device_put(pairs(n), where), *scalars).compile().as_text()
  assert re.search(r"collective-permute(-start)?\(", text)
  assert not re.search(r"all-gather(-start)?\(", text)


def temporaries(f, n, d, where=None):
  features = jax.ShapeDtypeStruct((n, d), jnp.float32, sharding=where)
  return f.lower(features, features, jnp.float32(10)).compile().memory_analysis().temp_size_in_bytes / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_memory_at_size_32768_on_one_device(name):
  loss, scalars = LOSSES[name]
  f = jax.jit(jax.value_and_grad(lambda a, b, s: loss(a, b, s, *scalars[1:])[0], (0, 1, 2)))
  assert temporaries(f, 32_768, 512) < 150


@pytest.mark.slow
@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_memory_at_size_32768_on_a_ring(name):
  loss, scalars = LOSSES[name]
  f = jax.jit(jax.value_and_grad(lambda a, b, s: loss(a, b, s, *scalars[1:], implementation="ring")[0], (0, 1, 2)))
  with parallel.use(mesh((8, 1, 1))):
    where = parallel.sharding(mesh((8, 1, 1)), parallel.DEFAULT, ("batch", None), (32_768, 512))
    assert temporaries(f, 32_768, 512, where) < 60


def test_the_form_follows_the_number_of_scores(monkeypatch):
  monkeypatch.setattr(choice, "LARGE", 24**2)
  assert choice.choose(None, 24)[0] == "plain"
  assert choice.choose(None, 25) == ("tiled", choice.Ring())
  with parallel.use(mesh((4, 2, 1))):
    assert choice.choose(None, 64)[0] == "plain"
    form, ring = choice.choose(None, 72)
    assert (form, ring.axes, ring.size) == ("ring", ("data", "fsdp"), 8)
    assert choice.choose(None, 73)[0] == "tiled"  # eight devices do not divide it


def test_a_form_that_does_not_apply_is_refused():
  image, text = pairs(16)
  with pytest.raises(ValueError, match="implementation 'tilde' of a contrastive loss.*did you mean 'tiled'"):
    softmax_contrastive(image, text, 1.0, implementation="tilde")
  with pytest.raises(ValueError, match="a ring needs 16 pairs that lie on several devices"):
    softmax_contrastive(image, text, 1.0, implementation="ring")
  with parallel.use(mesh((8, 1, 1))), pytest.raises(ValueError, match="'tiled' is the form of one device"):
    sigmoid_contrastive(image, text, 1.0, 0.0, implementation="tiled")
