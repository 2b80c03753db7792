"""The one suite that every implementation of a resampler's attention passes, against the definition in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.ops.attention.call import Call, Device
from vljax.ops.resampler import IMPLEMENTATIONS, choose, resample
from vljax.ops.resampler.shapes import SHAPES

B, L, S, K, D = 3, 4, 7, 2, 8
PADDING = np.arange(S) < np.array([[5], [7], [0]])


@pytest.fixture(params=list(IMPLEMENTATIONS))
def run(request):
  """`resample` by one implementation, jitted, on the dtype that it takes; with its tolerance."""
  name = request.param
  dtype = "bfloat16" if name == "fused" else "float32"
  reason = IMPLEMENTATIONS[name].refusal(Call(Device.current(), dtype, B, L, S + L, K, K, D))
  if reason:
    pytest.skip(f"{name}: {reason}")

  @jax.jit
  def call(query, media, latents, padding=None):
    half = jax.tree.map(lambda x: jnp.asarray(x, dtype), (query, media, latents))
    return resample(*half, key_padding=padding, implementation=name).astype(jnp.float32)

  call.tolerance = 2e-2 if dtype == "bfloat16" else 1e-5
  return call


def inputs(scale=1.0, lead=(B,)):
  rng = np.random.default_rng(0)
  draw = lambda n: (scale * rng.normal(size=(*lead, n, K, D))).astype(np.float32)
  return draw(L), (draw(S), draw(S)), (draw(L), draw(L))


def by_definition(query, media, latents, padding=None):
  """One latent and one head at a time, in float64."""
  out = np.zeros(query.shape)
  for b, i, h in np.ndindex(query.shape[:3]):
    seen = np.ones(S, bool) if padding is None else padding[b]
    keys, values = (np.concatenate([m[b, seen, h], own[b, :, h]]) for m, own in zip(media, latents, strict=True))
    scores = keys.astype(np.float64) @ query[b, i, h] / D**0.5
    weights = np.exp(scores - scores.max())
    out[b, i, h] = weights @ values / weights.sum()
  return out


@pytest.mark.parametrize("padding", [None, PADDING], ids=["all", "padding"])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_equals_the_definition(run, padding, scale):
  x = inputs(scale)
  np.testing.assert_allclose(run(*x, padding), by_definition(*x, padding), atol=scale * run.tolerance)


@pytest.mark.slow
def test_gradients_equal_the_reference(run):
  x, weight = inputs(), np.random.default_rng(1).normal(size=(B, L, K, D))
  loss = lambda f: jax.grad(lambda *x: (weight * f(*x)).sum(), (0, 1, 2))(*x)
  want = loss(lambda *x: resample(*x, key_padding=PADDING, implementation="reference"))
  got = loss(lambda *x: run(*x, PADDING))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5 * run.tolerance), got, want)
  hidden = np.asarray(got[1][1])[~PADDING]
  np.testing.assert_array_equal(hidden, np.zeros_like(hidden))


def test_leading_axes(run):
  query, media, latents = inputs(lead=(B, 2))
  flat = lambda x: x.reshape(-1, *x.shape[2:])
  padding = np.broadcast_to(PADDING[:, None], (B, 2, S))
  want = run(flat(query), tuple(map(flat, media)), tuple(map(flat, latents)), flat(padding))
  np.testing.assert_allclose(run(query, media, latents, padding), want.reshape(query.shape), atol=1e-6)


@pytest.mark.slow
def test_half_precision_keeps_a_float32_softmax():
  x = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), inputs())
  out = resample(*x, implementation="joined")
  assert out.dtype == jnp.bfloat16
  want = by_definition(*jax.tree.map(lambda x: np.asarray(x, np.float32), x))
  np.testing.assert_allclose(out.astype(jnp.float32), want, atol=1.5e-2)


@pytest.mark.parametrize(
  ("device", "dtype", "dim", "name"),
  [
    (Device("cpu"), "float32", 128, "joined"),
    (Device("tpu", tokamax=True), "bfloat16", 128, "joined"),
    (Device("gpu", 9.0), "float32", 128, "joined"),
    (Device("gpu", 9.0), "bfloat16", 128, "fused"),
    (Device("gpu", 9.0), "bfloat16", 100, "joined"),
  ],
)
def test_choice(device, dtype, dim, name):
  assert choose(Call(device, dtype, 2, 64, 164, 16, 16, dim)) == name


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_real_models_trace(name):
  shape = SHAPES[name]
  part = lambda n: jax.ShapeDtypeStruct((2, n, shape.heads, shape.dim), jnp.bfloat16)
  pair = lambda n: (part(n), part(n))
  out = jax.eval_shape(resample, part(shape.latents), pair(shape.tokens), pair(shape.latents))
  assert out == part(shape.latents)
  assert choose(Call(Device("gpu", 9.0), "bfloat16", 2, 64, 64 + shape.tokens, 16, 16, shape.dim)) == "fused"


def test_what_does_not_fit_says_so():
  query, media, latents = inputs()
  with pytest.raises(ValueError, match="unknown resampler implementation 'joind'; did you mean 'joined'"):
    resample(query, media, latents, implementation="joind")
  with pytest.raises(ValueError, match="differ in batch, heads or head dimension"):
    resample(query, media, (latents[0][:1], latents[1][:1]))
  with pytest.raises(ValueError, match="keys and values"):
    resample(query, (media[0], media[1][:, 1:]), latents)
  if jax.default_backend() == "cpu":
    with pytest.raises(ValueError, match="'fused' cannot run here: attention has no fused kernel for it"):
      resample(query, media, latents, implementation="fused")
