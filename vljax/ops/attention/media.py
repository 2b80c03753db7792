"""Attention of each query to one medium among several, without scores or masks for the media that it does not see."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vljax import config
from vljax.ops.attention.api import attention

TILE = 32
"""Queries of a tile: the fastest of 16, 32 and 64 on CPUs."""

FORMS = dict.fromkeys(("dense", "tiles"))


def media_attention(
  query: Float[Array, "b t k d"],
  key: Float[Array, "b n s g d"],
  value: Float[Array, "b n s g d"],
  phi: Int[Array, "b t"],
  *,
  first: Int[Array, "b t"] | None = None,
  scale: float | None = None,
  form: str | None = None,
  implementation: str | None = None,
) -> Float[Array, "b t k d"]:
  """Attention of query i to the s keys of medium phi[i], of n counted from 1; 0 sees nothing and gives zeros.

  That is Flamingo's masked cross-attention (arXiv 2204.14198, section 2.3 and appendix A.1.3). In the form `tiles` the
  queries of a medium, wherever they stand, are gathered into tiles of TILE rows, of which there are less than
  t / TILE + n. Each tile then attends to the keys of its medium without any mask, so that the work grows with t + n
  and not with t * n, and any implementation of `attention` runs it. The form `dense` masks the scores of all media.

  Args:
    first: for each query the first medium that it sees, all from that one to phi being seen; always dense.
    scale: 1 / sqrt(d) by default.
    form: `dense` or `tiles`; None picks the one with less work.
    implementation: of `attention`.

  Raises:
    ValueError: an unknown form, or tiles with `first`.
  """
  (b, t), (n, s) = query.shape[:2], key.shape[1:3]
  if form is not None:
    config.choose("form of media attention", form, FORMS)
  if first is not None and form == "tiles":
    raise ValueError("tiles see one medium each; legal with `first`: form='dense' or None")
  options = {"scale": scale, "implementation": implementation}
  if first is not None or (form or choose(t, n)) == "dense":
    owner = jnp.broadcast_to(jnp.repeat(jnp.arange(1, n + 1), s), (b, n * s))
    key, value = (x.reshape(b, n * s, *x.shape[3:]) for x in (key, value))
    return attention(query, key, value, media=(phi, owner), media_first=first, **options)
  tiles = plan(phi, n)
  rows = jax.vmap(lambda x, at: jnp.take(x, at, axis=0, mode="fill", fill_value=0))
  pick = lambda x: jnp.take_along_axis(x, tiles.medium[..., None, None, None], axis=1)
  gathered = rows(query, tiles.row).reshape(*tiles.medium.shape, -1, *query.shape[2:])
  out = attention(gathered, pick(key), pick(value), **options)
  return rows(out.reshape(b, -1, *query.shape[2:]), tiles.slot)


def choose(queries: int, media: int) -> str:
  """`tiles` where they leave at most half of the dense form's scores, else `dense`."""
  count, rows = extent(queries, media)
  return "tiles" if 2 * count * rows <= queries * media else "dense"


def extent(queries: int, media: int) -> tuple[int, int]:
  """(the most tiles that the queries can need, rows of a tile)."""
  rows = min(TILE, queries)
  return min(queries, (queries + media * (rows - 1)) // rows), rows


class Tiles(NamedTuple):
  """Which queries and which medium each tile has.

  Attributes:
    slot: for each query its place among all rows of the tiles; beyond them if it sees nothing.
    row: for each row of the tiles its query; beyond the queries if it has none.
    medium: of each tile, counted from 0.
  """

  slot: Int[Array, "b t"]
  row: Int[Array, "b m"]
  medium: Int[Array, "b w"]


def plan(phi: Int[Array, "b t"], media: int) -> Tiles:
  """Tiles of queries with the same phi; each medium fills its own, the last of which may stay partly empty."""
  t = phi.shape[1]
  count, rows = extent(t, media)

  def of_example(phi: Int[Array, "t"]) -> Tiles:
    own = jnp.clip(phi - 1, 0, media - 1)
    same = phi[:, None] == jnp.arange(1, media + 1)
    needed = -(-same.sum(0) // rows)
    end = jnp.cumsum(needed)
    rank = jnp.take_along_axis(jnp.cumsum(same, axis=0) - 1, own[:, None], axis=1)[:, 0]
    slot = jnp.where(same.any(1), (end - needed)[own] * rows + rank, count * rows)
    row = jnp.full(count * rows, t).at[slot].set(jnp.arange(t), mode="drop")
    medium = jnp.minimum(jnp.searchsorted(end, jnp.arange(count), side="right"), media - 1)
    return Tiles(slot, row, medium)

  return jax.vmap(of_example)(phi)
