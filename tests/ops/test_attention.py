"""The one suite that every implementation of attention passes, against the definition in numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax.ops.attention import IMPLEMENTATIONS, Cache, Call, attention
from vljax.ops.attention import xla as xla_module
from vljax.ops.attention.call import Device
from vljax.ops.attention.masks import Masks, visible
from vljax.ops.attention.shapes import SHAPES

B, T, S, K, D = 2, 6, 8, 4, 16
FUSED = ("cudnn", "tokamax")


@pytest.fixture(params=[*IMPLEMENTATIONS, "xla in chunks"])
def run(request, monkeypatch):
  """`attention` by one implementation, jitted, on the dtype that it takes; with its tolerance."""
  name, _, chunked = request.param.partition(" ")
  dtype = "bfloat16" if name in FUSED else "float32"
  example = Call(Device.current(), dtype, B, T, S, K, K, D)
  reason = IMPLEMENTATIONS[name].refusal(example)
  if reason:
    pytest.skip(f"{name}: {reason}")
  if chunked:
    monkeypatch.setattr(xla_module, "BUDGET", 0)
    monkeypatch.setattr(xla_module, "CHUNK", 3)
  static = ("causal", "scale")

  def call(query, key, value, **options):
    fixed = {n: options.pop(n) for n in static if n in options}
    f = jax.jit(lambda q, k, v, o: attention(q, k, v, implementation=name, **fixed, **o))
    return f(*(jnp.asarray(x, dtype) for x in (query, key, value)), options).astype(jnp.float32)

  call.takes_bias = IMPLEMENTATIONS[name].refusal(dataclasses.replace(example, bias=True)) is None
  call.tolerance = 2e-2 if dtype == "bfloat16" else 2e-5
  return call


def draw(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def inputs(t=T, s=S, k=K, g=None, d=D, b=B):
  return draw(0, b, t, k, d), draw(1, b, s, g or k, d), draw(2, b, s, g or k, d)


def seen_by_definition(t, s, b=B, causal=False, offset=0, key_padding=None, segments=None, media=None):
  """Which keys each query sees, one at a time."""
  seen = np.ones((b, t, s), bool)
  offset = np.broadcast_to(offset, (b,))
  for x, i, j in np.ndindex(b, t, s):
    if causal and j > offset[x] + i:
      seen[x, i, j] = False
    if key_padding is not None and not key_padding[x, j]:
      seen[x, i, j] = False
    if segments is not None and segments[0][x, i] != segments[1][x, j]:
      seen[x, i, j] = False
    if media is not None and (media[0][x, i] == 0 or media[0][x, i] != media[1][x, j]):
      seen[x, i, j] = False
  return seen


def by_definition(query, key, value, seen, bias=0.0, scale=None):
  """One head and one row at a time, in float64."""
  (b, t, k, d), g = query.shape, key.shape[2]
  bias = np.broadcast_to(bias, (b, k, t, key.shape[1]))
  out = np.zeros(query.shape)
  for x, i, h in np.ndindex(b, t, k):
    row = seen[x, i]
    if row.any():
      head = h // (k // g)
      scores = (scale or d**-0.5) * key[x, row, head].astype(np.float64) @ query[x, i, h] + bias[x, h, i, row]
      weights = np.exp(scores - scores.max())
      out[x, i, h] = weights @ value[x, row, head] / weights.sum()
  return out


PADDING = np.arange(S) < np.array([[5], [8]])
SEGMENTS = np.array([[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]]), np.array([[0, 0, 1, 1, 1, 2, 2, 2], [1] * 8])
MEDIA = (
  np.array([[0, 1, 1, 2, 2, 2], [0, 0, 0, 1, 1, 1]]),
  np.array([[1, 1, 2, 2, 3, 3, 0, 0], [1, 1, 1, 1, 2, 2, 2, 2]]),
)
MASKS = {
  "none": {},
  "causal": {"causal": True},
  "offset": {"causal": True, "offset": 2},
  "offsets": {"causal": True, "offset": np.array([1, 2])},
  "key padding": {"key_padding": PADDING},
  "segments": {"segments": SEGMENTS},
  "media": {"media": MEDIA},
  "all": {"causal": True, "offset": 2, "key_padding": PADDING, "segments": SEGMENTS, "media": MEDIA},
}


@pytest.mark.parametrize(("name", "g"), [*((name, 2) for name in MASKS), ("all", 4), ("all", 1)])
def test_equals_the_definition(run, name, g):
  query, key, value = inputs(g=g)
  masks = MASKS[name]
  want = by_definition(query, key, value, seen_by_definition(T, S, **masks))
  np.testing.assert_allclose(run(query, key, value, **masks), want, atol=run.tolerance)


@pytest.mark.parametrize("shape", [(B, K, T, S), (1, K, T, S), (B, 1, T, S), (1, 1, 1, S), (T, S)])
def test_bias(run, shape):
  if not run.takes_bias:
    pytest.skip("it takes no bias")
  query, key, value = inputs(g=2)
  bias = draw(3, *shape)
  want = by_definition(query, key, value, seen_by_definition(T, S, key_padding=PADDING), bias, 0.5)
  np.testing.assert_allclose(
    run(query, key, value, bias=bias, key_padding=PADDING, scale=0.5), want, atol=run.tolerance
  )


def test_blind_rows_give_zeros_and_finite_gradients(run):
  query, key, value = inputs()
  padding = np.array([[False] * S, [True] * S])
  masks = {"key_padding": padding, "media": MEDIA}
  blind = ~seen_by_definition(T, S, **masks).any(-1)
  assert blind[0].all()
  assert blind[1, :3].all()
  out = run(query, key, value, **masks)
  assert (np.asarray(out)[blind] == 0).all()
  grads = jax.grad(lambda *x: jnp.sin(run(*x, **masks)).sum(), (0, 1, 2))(query, key, value)
  assert all(np.isfinite(g).all() for g in grads)
  assert (np.asarray(grads[0])[blind] == 0).all()
  assert (np.asarray(grads[1])[0] == 0).all()


@pytest.mark.parametrize("masks", [{}, MASKS["causal"], MASKS["all"]], ids=["none", "causal", "all"])
def test_gradients_equal_the_reference(run, masks):
  query, key, value = inputs(g=2)
  bias, weight = draw(3, 1, K, T, S), draw(4, B, T, K, D)
  options = lambda b: {**masks, "bias": b} if run.takes_bias else masks
  loss = lambda f: jax.grad(lambda q, k, v, b: (weight * f(q, k, v, **options(b))).sum(), (0, 1, 2, 3))
  got = loss(run)(query, key, value, bias)

  def reference(*x, causal=False, **options):
    return jax.jit(lambda x, o: attention(*x, causal=causal, **o, implementation="reference"))(x, options)

  want = loss(reference)(query, key, value, bias)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5 * run.tolerance), got, want)


def test_large_scores_do_not_overflow(run):
  query, key, value = inputs()
  out = run(100 * query, 100 * key, value, causal=True)
  assert np.isfinite(out).all()


def test_leading_axes(run):
  query, key, value = (x[None] for x in inputs())
  masks = {"key_padding": PADDING[None], "media": tuple(m[None] for m in MEDIA)}
  want = by_definition(query[0], key[0], value[0], seen_by_definition(T, S, key_padding=PADDING, media=MEDIA))
  np.testing.assert_allclose(run(query, key, value, **masks)[0], want, atol=run.tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("padded", [False, True])
def test_decoding_with_a_cache_equals_the_whole(run, padded):
  query, key, value = (jnp.asarray(x) for x in inputs(t=S, g=2))
  whole = run(query, key, value, causal=True)
  cache = Cache.empty(3, B, 12, 2, D)
  parts = []
  for first, last in ((0, 4), (4, 6), (6, 8)):
    pads = ((0, 0), (1, 1) if padded else (0, 0), (0, 0), (0, 0))
    new = [jnp.pad(x[:, first:last], pads, constant_values=7.0) for x in (query, key, value)]
    real = jnp.pad(jnp.ones((B, last - first), bool), pads[:2])
    cache = cache.put(1, *new[1:], cache.places(real))
    parts.append(run(new[0], *cache.layer(1), causal=True, offset=cache.offset(real)))
    parts[-1] = parts[-1][:, 1:-1] if padded else parts[-1]
    cache = cache.grown(real)
  np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=run.tolerance)
  assert cache.length.tolist() == [S] * B
  assert not np.asarray(cache.key[0]).any()
  assert (cache.take(jnp.array([1, 1, 0])).key[:, 0] == cache.key[:, 1]).all()


@pytest.mark.slow
def test_half_precision_keeps_a_float32_softmax(run):
  query, key, value = (jnp.asarray(x, jnp.bfloat16) for x in inputs(s=256))
  out = attention(query, key, value, implementation="xla")
  assert out.dtype == jnp.bfloat16
  want = by_definition(*(np.asarray(x, np.float32) for x in (query, key, value)), np.ones((B, T, 256), bool))
  np.testing.assert_allclose(out.astype(jnp.float32), want, atol=5e-3)


def test_chunks_never_hold_all_scores(monkeypatch):
  monkeypatch.setattr(xla_module, "BUDGET", 0)
  monkeypatch.setattr(xla_module, "CHUNK", 64)
  x = jnp.zeros((1, 512, 2, 8))
  loss = lambda q, k, v: attention(q, k, v, causal=True, implementation="xla").sum()
  temp = jax.jit(jax.grad(loss, (0, 1, 2))).lower(x, x, x).compile().memory_analysis().temp_size_in_bytes
  assert temp < 0.75 * 4 * 2 * 512 * 512


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"implementation": "xlaa"}, "unknown attention implementation 'xlaa'; did you mean 'xla'"),
    ({"implementation": "cudnn"}, "'cudnn' cannot run here: it needs an NVIDIA GPU; the platform is cpu"),
    (
      {"implementation": "tokamax"},
      "'tokamax' cannot run here: (the package tokamax is not|it has no kernel for CPUs)",
    ),
  ],
)
def test_what_cannot_run_here_says_why(options, message):
  if jax.default_backend() != "cpu":
    pytest.skip("the messages are those of a CPU")
  with pytest.raises(ValueError, match=message):
    attention(*inputs(), **options)


@pytest.mark.parametrize(
  ("shapes", "message"),
  [
    (((2, 6, 4, 8), (2, 8, 4, 8), (2, 7, 4, 8)), "key and value"),
    (((6, 4, 8), (8, 4, 8), (8, 4, 8)), r"takes query \[\*b t k d\]"),
    (((2, 6, 4, 8), (3, 8, 4, 8), (3, 8, 4, 8)), "differ in batch or head dimension"),
    (((2, 6, 4, 8), (2, 8, 3, 8), (2, 8, 3, 8)), "4 query heads are no multiple of 3 key heads"),
  ],
)
def test_shapes_that_do_not_fit(shapes, message):
  with pytest.raises(ValueError, match=message):
    attention(*(jnp.zeros(s) for s in shapes))


def test_a_cache_too_small_says_so():
  with pytest.raises(ValueError, match="5 tokens do not fit into a cache with room for 4"):
    Cache.empty(1, 1, 4, 2, 8).places(jnp.ones((1, 5), bool))


ids = lambda n: st.lists(st.integers(0, 3), min_size=n, max_size=n)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data(), t=st.integers(1, 5), s=st.integers(1, 7), causal=st.booleans(), offset=st.integers(0, 4))
def test_masks_mean_what_they_say(data, t, s, causal, offset):
  masks = {"causal": causal, "offset": offset}
  if data.draw(st.booleans()):
    masks["key_padding"] = np.array([data.draw(st.lists(st.booleans(), min_size=s, max_size=s))])
  for name in ("segments", "media"):
    if data.draw(st.booleans()):
      masks[name] = np.array([data.draw(ids(t))]), np.array([data.draw(ids(s))])
  given_masks = Masks(**jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, masks))
  seen = visible(given_masks, t, s)
  want = seen_by_definition(t, s, 1, **masks)
  if seen is None:
    assert want.all()
  else:
    np.testing.assert_array_equal(np.broadcast_to(seen, want.shape), want)
  start = data.draw(st.integers(0, s - 1))
  part = visible(given_masks, t, s, start, s - start)
  if part is not None:
    np.testing.assert_array_equal(np.broadcast_to(part, (1, t, s - start)), want[:, :, start:])


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_real_models_trace(name):
  shape = SHAPES[name]
  query = jax.ShapeDtypeStruct((2, shape.queries, shape.heads, shape.dim), jnp.bfloat16)
  key = jax.ShapeDtypeStruct((2, shape.keys, shape.kv_heads, shape.dim), jnp.bfloat16)
  out = jax.eval_shape(lambda q, k, v: attention(q, k, v, causal=shape.causal), query, key, key)
  assert out == query
