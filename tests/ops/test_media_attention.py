"""Attention to one medium among several: both forms against the definition, and the plan of the tiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax.ops.attention import attention, media_attention
from vljax.ops.attention import media as media_module
from vljax.ops.attention.masks import Masks, visible
from vljax.ops.attention.media import choose, extent, plan

B, T, N, S, K, D = 2, 11, 3, 4, 2, 8
PHI = np.array([[0, 0, 1, 1, 2, 2, 2, 2, 2, 3, 3], [2, 2, 0, 3, 3, 0, 1, 1, 1, 1, 1]])
"""The second text goes back and forth, as no packed document does; tiles must not mind."""


@pytest.fixture(params=["dense", "tiles"])
def form(request, monkeypatch):
  monkeypatch.setattr(media_module, "TILE", 3)
  return request.param


def inputs(g=K):
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  return draw(B, T, K, D), draw(B, N, S, g, D), draw(B, N, S, g, D)


def by_definition(query, key, value, phi, first=None):
  """One row and one head at a time, in float64."""
  out = np.zeros(query.shape)
  for b, i, h in np.ndindex(query.shape[:3]):
    last = phi[b, i]
    seen = slice((last if first is None else first[b, i]) - 1, last)
    if last == 0 or seen.start >= seen.stop:
      continue
    head = h // (K // key.shape[3])
    keys, values = (x[b, seen, :, head].reshape(-1, D).astype(np.float64) for x in (key, value))
    scores = keys @ query[b, i, h] / D**0.5
    weights = np.exp(scores - scores.max())
    out[b, i, h] = weights @ values / weights.sum()
  return out


def run(form=None):
  """`media_attention` in one form, jitted."""
  return jax.jit(lambda *x, first=None: media_attention(*x, first=first, form=form))


@pytest.mark.parametrize("g", [1, 2])
def test_equals_the_definition(form, g):
  x = inputs(g)
  out = run(form)(*x, PHI)
  np.testing.assert_allclose(out, by_definition(*x, PHI), atol=1e-5)
  assert not np.asarray(out)[PHI == 0].any()


def test_gradients_equal_those_of_the_masks(form):
  x, weight = inputs(), np.random.default_rng(1).normal(size=(B, T, K, D))
  owner = np.repeat(np.arange(1, N + 1), S)[None].repeat(B, 0)
  flat = lambda x: x.reshape(B, N * S, K, D)
  masked = lambda q, k, v: attention(q, flat(k), flat(v), media=(PHI, owner), implementation="reference")
  loss = lambda f: jax.jit(jax.grad(lambda *x: (weight * f(*x)).sum(), (0, 1, 2)))(*x)
  got = loss(lambda *x: media_attention(*x, PHI, form=form))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, loss(masked))


@pytest.mark.slow
@pytest.mark.parametrize("t", [1, 2])
def test_the_next_words_of_a_text(form, t):
  query, key, value = inputs()
  phi = PHI[:, [4, 2]][:, :t]
  out = run(form)(query[:, :t], key, value, phi)
  np.testing.assert_allclose(out, by_definition(query[:, :t], key, value, phi), atol=1e-5)


def test_all_media_of_a_document():
  """Two documents: media 1 and 2 belong to the first, 3 to the second; row 9 of the second is before its image."""
  x = inputs()
  phi = np.array([[0, 0, 1, 1, 2, 2, 2, 2, 0, 0, 3]] * B)
  first = np.array([[1] * 8 + [3] * 3] * B)
  out = run()(*x, phi, first=first)
  np.testing.assert_allclose(out, by_definition(*x, phi, first), atol=1e-5)
  assert not np.asarray(out)[:, [0, 1, 8, 9]].any()
  other = x[2] + np.eye(N, dtype=np.float32)[1][:, None, None, None]
  edited = run()(x[0], x[1], other, phi, first=first)
  assert ((np.asarray(edited) != out).any((0, 2, 3)) == ((first[0] <= 2) & (phi[0] >= 2))).all()


ids = lambda data, low, high, size: np.array(
  [data.draw(st.lists(st.integers(low, high), min_size=size, max_size=size))]
)
see = jax.jit(
  lambda phi, own, first: visible(Masks(media=(phi, own), media_first=first), *phi.shape[1:], own.shape[1])
)
make_plan = jax.jit(plan, static_argnums=1)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_media_first_means_what_it_says(data):
  phi, own, first = ids(data, 0, 3, 5), ids(data, 0, 3, 7), ids(data, 1, 4, 5)
  np.testing.assert_array_equal(
    see(phi, own, first)[0], (first[0][:, None] <= own) & (own <= phi[0][:, None]) & (own > 0)
  )


@pytest.mark.parametrize(("t", "n"), [(1, 1), (7, 3), (40, 2), (80, 6)])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_query_has_one_place_in_a_tile_of_its_medium(data, t, n):
  phi = ids(data, 0, n, t)
  count, rows = extent(t, n)
  tiles = jax.tree.map(lambda x: np.asarray(x[0]), make_plan(phi, n))
  assert (tiles.row.shape, tiles.medium.shape) == ((count * rows,), (count,))
  sees = phi[0] > 0
  assert (tiles.slot[~sees] >= count * rows).all()
  np.testing.assert_array_equal(tiles.row[tiles.slot[sees]], np.flatnonzero(sees))
  np.testing.assert_array_equal(tiles.medium[tiles.slot[sees] // rows] + 1, phi[0][sees])
  assert (tiles.row < t).sum() == sees.sum()


@pytest.mark.parametrize(
  ("queries", "media", "form"),
  [(256, 5, "tiles"), (2048, 32, "tiles"), (1, 2, "tiles"), (1, 32, "tiles"), (1, 1, "dense"), (256, 1, "dense"),
   (64, 2, "dense"), (16, 5, "dense")],
)  # fmt: skip
def test_choice(queries, media, form):
  assert choose(queries, media) == form


@pytest.mark.slow
def test_tiles_hold_no_scores_of_other_media():
  """Their memory grows with t + n, that of the masks with t * n."""
  sizes = {}
  for form in ("dense", "tiles"):
    run = jax.jit(lambda q, k, v, phi, form=form: media_attention(q, k, v, phi, form=form))
    q, k = jnp.zeros((1, 256, 4, 8)), jnp.zeros((1, 16, 16, 4, 8))
    compiled = run.lower(q, k, k, jnp.zeros((1, 256), jnp.int32)).compile()
    sizes[form] = compiled.memory_analysis().temp_size_in_bytes
  assert sizes["dense"] > 4 * 256 * 16 * 16 * 4
  assert sizes["tiles"] < sizes["dense"] / 2


def test_what_cannot_be_says_so():
  x = inputs()
  with pytest.raises(ValueError, match="unknown form of media attention 'tile'; did you mean 'tiles'"):
    media_attention(*x, PHI, form="tile")
  with pytest.raises(ValueError, match="tiles see one medium each"):
    media_attention(*x, PHI, first=np.ones_like(PHI), form="tiles")
