"""What every switch of the decoder must hold to: no look-ahead, packing, padding, caches, inserts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import tree
from vljax.layers.decoder import Insert
from vljax.models import decoder, fitting

# Billions: L * 13 D^2 + 32000 D (docs/language_models.md); the others are transformers' counts.
COUNTS = {
  "chinchilla-1.4b": 1.374e9,
  "chinchilla-7b": 7.11e9,
  "chinchilla-9b-table4": 8.86e9,
  "chinchilla-70b": 70.06e9,
}

KINDS = {
  "llama": dict(variant="test"),
  "opt": dict(kv_heads=None, **decoder.OPT, norm="layer", positions="learned", gated=False, mlp_bias=True),
  "neox": dict(**decoder.PYTHIA | {"rotary_fraction": 0.5}, interleaved=True, norm="layer"),
  "mpt": dict(**decoder.MPT, qk_norm=True, gated=False),
  "chinchilla": dict(**decoder.CHINCHILLA, gated=False, activation="squared_relu"),
  "post": dict(residual="post", embed_width=24, positions="none", extra=2),
}
T = 12


def noisy(params, seed=1):
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  return structure.unflatten([p + 0.1 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)])


@functools.cache
def made(kind):
  """(model, parameters, a jitted call)."""
  model = decoder.build("test", **{k: v for k, v in KINDS[kind].items() if k != "variant"})
  params = noisy(jax.jit(lambda: nn_unbox(model.init(jax.random.key(0), *model.inputs())["params"]))())
  return model, params, jax.jit(lambda tokens, **options: model.apply({"params": params}, tokens, **options))


def nn_unbox(params):
  return jax.tree.map(lambda x: x.unbox(), params, is_leaf=lambda x: hasattr(x, "unbox"))


@pytest.fixture(params=KINDS)
def kind(request):
  return request.param


def draw(b=2, t=T, seed=0):
  return np.random.default_rng(seed).integers(1, 64, (b, t)).astype(np.int32)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
  assert tree.count(fitting.abstract(decoder.build(name))) == pytest.approx(COUNTS[name], rel=0.01)


@pytest.mark.slow
def test_nobody_looks_ahead(kind):
  _, _, run = made(kind)
  tokens = draw()
  whole = np.asarray(run(tokens))
  assert np.isfinite(whole).all()
  changed = tokens.copy()
  changed[:, 7] = (changed[:, 7] + 1) % 64
  moved = np.abs(np.asarray(run(changed)) - whole).max(axis=(0, 2))
  assert moved[:7].max() == 0
  assert moved[7:].min() > 1e-4


@pytest.mark.slow
def test_packed_texts_are_texts_alone(kind):
  _, _, run = made(kind)
  tokens = draw(1)
  segments = np.array([[3] * 5 + [1] * 4 + [2] * 3])
  packed = np.asarray(run(tokens, segments=segments))[0]
  for first, last in ((0, 5), (5, 9), (9, 12)):
    np.testing.assert_allclose(packed[first:last], run(tokens[:, first:last])[0], atol=1e-4)


@pytest.mark.slow
def test_decoding_with_a_cache_equals_the_whole(kind):
  """Three texts, padded left, right and not at all, read in one call and continued together."""
  model, _, run = made(kind)
  tokens, lengths = draw(3), (8, 5, 3)
  whole = [np.asarray(run(row[None, : n + 4]))[0] for row, n in zip(tokens, lengths, strict=True)]
  prompt, real = np.zeros((3, 8), np.int32), np.zeros((3, 8), bool)
  for i, (n, at) in enumerate(zip(lengths, (0, 3, 0), strict=True)):
    prompt[i, at : at + n], real[i, at : at + n] = tokens[i, :n], True
  logits, cache = run(prompt, key_padding=real, cache=model.cache(3, 12))
  for i, n in enumerate(lengths):
    np.testing.assert_allclose(np.asarray(logits)[i][real[i]], whole[i][:n], atol=1e-4)
  assert cache.length.tolist() == list(lengths)
  for step in range(2):
    new = np.stack([tokens[i, n + 2 * step : n + 2 * step + 2] for i, n in enumerate(lengths)])
    logits, cache = run(new, cache=cache)
    for i, n in enumerate(lengths):
      np.testing.assert_allclose(logits[i], whole[i][n + 2 * step : n + 2 * step + 2], atol=1e-4)


@pytest.mark.slow
def test_padding_without_a_cache_changes_nothing(kind):
  _, _, run = made(kind)
  tokens = draw(1, 6)
  padded = np.concatenate([np.zeros((1, 4), np.int32), tokens, np.zeros((1, 2), np.int32)], 1)
  got = run(padded, key_padding=np.arange(12)[None] // 2 == np.clip(np.arange(12)[None] // 2, 2, 4))
  np.testing.assert_allclose(got[0, 4:10], run(tokens)[0], atol=1e-4)


def by_hand(model, params, tokens, insert):
  """Blocks one by one, each a stack of one."""
  bound = model.bind({"params": params})
  one = model.clone(depth=1)
  x = bound.embed(tokens)
  for i in range(model.depth):
    if i in insert.at:
      n = insert.at.index(i)
      x = insert.apply(jax.tree.map(lambda p, n=n: p[n], insert.params), x, insert.xs[n])
    x, _ = one.bind({"params": {**params, "blocks": jax.tree.map(lambda p, i=i: p[i : i + 1], params["blocks"])}}).run(
      x
    )
  return bound.logits(x)


@pytest.mark.slow
@pytest.mark.parametrize("held", [0, 2, 4])
@pytest.mark.parametrize("at", [(0, 1, 2, 3), (0, 2), (1, 3), (2,), (0, 3), ()])
def test_inserts_run_before_their_blocks(at, held):
  model, params, _ = made("llama")
  rng = np.random.default_rng(0)
  weights, xs = (jnp.asarray(rng.normal(size=(len(at), 32)), jnp.float32) for _ in range(2))
  apply = lambda w, x, own: x + jnp.tanh(x * w) + own
  tokens = draw()

  def loss(weights, params, model, run):
    return jnp.sin(run(model, params, tokens, Insert(at, weights, apply, xs))).sum()

  whole = lambda model, params, tokens, insert: model.apply({"params": params}, tokens, insert=insert)
  want, gradient = jax.value_and_grad(loss)(weights, params, model, by_hand)
  got, ours = jax.jit(jax.value_and_grad(lambda w: loss(w, params, model.clone(held=held, unroll=1), whole)))(weights)
  np.testing.assert_allclose(got, want, rtol=1e-4)
  np.testing.assert_allclose(ours, gradient, rtol=1e-3, atol=1e-4)


def test_learned_positions_hold_what_shapes_tell():
  """Padding counts but with a cache, where it takes no place."""
  model = decoder.build("test", depth=1, positions="learned", length=8)
  real, cache = np.arange(9)[None] < 8, model.cache(1, 12)
  call = lambda **options: jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), draw(1, 9), **options)[0])
  for options in ({}, dict(cache=cache), dict(key_padding=real)):
    with pytest.raises(ValueError, match="texts of 9 tokens; the model has positions for 8"):
      call(**options)
  assert call(cache=cache, key_padding=real)[0].shape == (1, 9, 64)


def test_a_named_implementation_of_attention_is_not_for_caches():
  """cuDNN refuses single queries behind others, and float32 anywhere."""
  model = decoder.build("test", attention="cudnn")
  call = lambda **options: jax.eval_shape(lambda: model.apply({"params": made("llama")[1]}, draw(1, 1), **options))
  assert call(cache=model.cache(1, 16))[0].shape == (1, 1, 64)
  with pytest.raises(ValueError, match="attention implementation 'cudnn' cannot run here"):
    call()
