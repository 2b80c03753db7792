"""Sizes, time, padding and the ablation kinds of the resampler."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from vljax import parallel, tree
from vljax.models import fitting, resampler
from vljax.models.resampler import interpolate

MILLIONS = {"flamingo": 193.6, "small": 99.2, "large": 382.4, "mlp": 193.5, "transformer": 193.6}
"""Table 5 of the paper: 194; with the totals of table 10, 3.1 and 3.4 billion, the small and the large one."""


@functools.cache
def made(**overrides):
  """(model, parameters of which none is zero, a jitted call)."""
  model = resampler.build("test", **overrides)
  params = nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), *model.inputs())["params"])
  params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params)
  return model, params, jax.jit(lambda *x: model.apply({"params": params}, *x))


def draw(b=2, n=3, f=2, s=5, c=48):
  return np.random.default_rng(0).normal(size=(b, n, f, s, c)).astype(np.float32)


@pytest.mark.parametrize("name", MILLIONS)
def test_parameter_counts(name):
  assert tree.count(fitting.abstract(resampler.build(name))) / 1e6 == pytest.approx(MILLIONS[name], abs=0.05)


def test_heads_of_96_do_not_give_the_papers_count():
  count = lambda **o: tree.count(fitting.abstract(resampler.build("flamingo", **o))) / 1e6
  assert count(head_dim=96) == pytest.approx(174.8, abs=0.05)
  assert count(head_dim=96, media_width=1536) == pytest.approx(170.0, abs=0.05)


@pytest.mark.slow
def test_a_layer_is_attention_over_the_concatenation():
  """The whole resampler in numpy, as the paper's figure 4 writes it, with the norms."""
  model, params, run = made()
  media = draw(b=1, n=1)
  p = jax.tree.map(np.asarray, params)
  norm = lambda x, n: (
    (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * n["scale"] + n["bias"]
  )
  x = media[0, 0] @ p["project"]["kernel"] + p["time"][[0, 7], None]
  x, y = x.reshape(10, 32), p["latents"]
  for i in range(model.depth):
    layer = jax.tree.map(lambda a, i=i: a[i], p["blocks"])
    own = norm(y, layer["norm_latents"])
    both = np.concatenate([norm(x, layer["norm_media"]), own])
    heads = lambda name, a, layer=layer: np.einsum("nd,dkc->knc", a, layer["attention"][name]["kernel"])
    scores = heads("query", own) @ heads("key", both).transpose(0, 2, 1) / 8**0.5
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    read = weights / weights.sum(-1, keepdims=True) @ heads("value", both)
    y = y + np.einsum("knc,kcd->nd", read, layer["attention"]["out"]["kernel"])
    hidden = np.maximum(norm(y, layer["norm_2"]) @ layer["mlp"]["up"]["kernel"], 0) ** 2
    y = y + hidden @ layer["mlp"]["down"]["kernel"]
  np.testing.assert_allclose(run(media)[0, 0], norm(y, p["norm_post"]), atol=2e-5)


@pytest.mark.slow
def test_media_do_not_mix_and_frames_do():
  _, _, run = made()
  media = draw()
  whole = np.asarray(run(media))
  assert whole.shape == (2, 3, 4, 32)
  edited = media.copy()
  edited[0, 1, 1] += 1
  moved = np.abs(np.asarray(run(edited)) - whole).max((2, 3)) > 1e-4
  np.testing.assert_array_equal(moved, [[False, True, False], [False] * 3])
  assert np.abs(np.asarray(run(media[:, :, ::-1])) - whole).max() > 1e-3
  still = made(frames=0)[2]
  np.testing.assert_allclose(still(media[:, :, ::-1]), still(media), atol=1e-5)


@pytest.mark.slow
def test_time_embeddings_are_interpolated():
  table = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
  spread = lambda n: interpolate(table, np.linspace(0, 7, n, dtype=np.float32))
  np.testing.assert_array_equal(spread(8), table)
  np.testing.assert_array_equal(np.asarray(spread(30))[[0, -1]], table[[0, 7]])
  np.testing.assert_allclose(spread(15)[1::2], (table[1:] + table[:-1]) / 2, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 8, 30])
def test_the_model_spreads_them_over_its_frames(count):
  model, params, _ = made()
  bound = model.bind({"params": params})
  times, table = np.asarray(bound._times(count, None)), np.asarray(params["time"])
  assert times.shape == (count, 32)
  np.testing.assert_array_equal(times[0], table[0])
  if count > 1:
    np.testing.assert_array_equal(times[-1], table[7])
  np.testing.assert_allclose(bound._times(count, np.ones((1, 1, count), bool))[0, 0], times, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("real", [1, 3])
def test_frames_that_are_not_real_change_nothing(real):
  _, _, run = made()
  media = draw(f=4)
  frames = np.broadcast_to(np.arange(4) < real, media.shape[:3])
  np.testing.assert_allclose(run(media, frames), run(media[:, :, :real]), atol=1e-5)


@pytest.mark.slow
def test_the_map_says_where_latents_look():
  model, params, _ = made()
  media = draw(f=4)
  frames = np.broadcast_to(np.arange(4) < 3, media.shape[:3])
  weights = model.apply({"params": params}, media, frames, method="attention_map")
  assert weights.shape == (2, 3, 4, 4, 5)
  np.testing.assert_allclose(weights.sum((3, 4)), 1, atol=1e-5)
  assert not np.asarray(weights)[:, :, :, 3].any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_the_other_kinds_give_a_token_for_each_feature(kind):
  model, params, run = made(kind=kind)
  media = draw()
  whole = np.asarray(run(media))
  assert whole.shape == (2, 3, 10, 32)
  edited = media.copy()
  edited[0, 1, 0, 3] += 1
  moved = np.abs(np.asarray(run(edited)) - whole).max(3) > 1e-4
  assert moved[0, 1].all() == (kind == "transformer")
  assert moved[0, 1, 3]
  assert moved.sum() == (10 if kind == "transformer" else 1)
  with pytest.raises(ValueError, match="legal: frames = None"):
    run(media, np.ones(media.shape[:3], bool))
  with pytest.raises(ValueError, match="legal: 'perceiver'"):
    model.apply({"params": params}, media, method="attention_map")


@pytest.mark.parametrize("name", resampler.VARIANTS)
def test_every_parameter_maps_through_the_rules(name):
  mesh = jax.sharding.AbstractMesh((1, 4, 2), ("data", "fsdp", "tensor"))
  whole = part = 0
  is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)
  for box in jax.tree.leaves(fitting.abstract(resampler.build(name), boxed=True), is_leaf=is_box):
    where = parallel.sharding(mesh, parallel.DEFAULT, box.names, box.value.shape)
    whole, part = whole + box.value.size, part + np.prod(where.shard_shape(box.value.shape))
  assert name == "test" or part < 1.05 * whole / 8


@pytest.mark.slow
def test_errors_name_what_is_legal():
  with pytest.raises(ValueError, match="features of width 40; the resampler takes 48"):
    made()[2](draw(c=40))
  with pytest.raises(ValueError, match="unknown kind of Resampler 'percever'; did you mean 'perceiver'"):
    fitting.abstract(resampler.build("test", kind="percever"))
  with pytest.raises(ValueError, match="unknown Resampler variant 'flamengo'; did you mean 'flamingo'"):
    resampler.build("flamengo")
