"""A walk over all pairs of rows and columns, one tile of scores at a time, on one device or around a ring of them.

What a loss keeps of the walk belongs to rows or to columns (log-sum-exps, gradients), so memory grows with n, not n^2.
On a ring the columns travel, and what is kept of them travels along; after one round they are home again
(Inf-CL, arXiv 2410.17243; SigLIP, arXiv 2303.15343, section 3.3).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from vljax.objectives.contrastive.choice import TILE, Ring


class Side(NamedTuple):
  """Rows or columns: features, the position of each in the whole batch (-1: padding), and constants of the loss."""

  x: Float[Array, "n d"]
  index: Int[Array, " n"]
  given: Any = ()


def sides(x: Float[Array, "n d"], y: Float[Array, "n d"], *given: Any) -> tuple[Side, Side]:
  """The rows x and the columns y, all of them, with the constants of each, if there are some."""
  index = jnp.arange(len(x), dtype=jnp.int32)
  of_rows, of_columns = given or ((), ())
  return Side(x, index, of_rows), Side(y, index, of_columns)


def others(rows: Side, columns: Side) -> Bool[Array, "r c"]:
  """Which couples of a tile are there and no pair."""
  index = rows.index[:, None]
  return (index >= 0) & (columns.index >= 0) & (index != columns.index)


Body = Callable[[Float[Array, "r c"], Side, Side, Any, Any], tuple[Any, Any]]
"""(products of features, rows, columns, kept of rows, kept of columns) -> both kept anew, of a tile."""


def walk(body: Body, rows: Side, columns: Side, kept: tuple[Any, Any], ring: Ring) -> tuple[Any, Any]:
  """What `body` keeps of the rows and of the columns after it has met each tile once; `kept` is what it starts with.

  All leaves of sides and kept have the rows or columns first, the same number of both on each device.
  """
  if not ring.axes:
    return _block(body, rows, columns, kept)
  size = ring.size
  back = [(i, (i - 1) % size) for i in range(size)]

  def local(rows, columns, kept):
    def turn(_, carry):
      columns, (of_rows, of_columns) = carry
      of_rows, of_columns = _block(body, rows, columns, (of_rows, of_columns))
      columns, of_columns = jax.tree.map(lambda x: jax.lax.ppermute(x, ring.axes, back), (columns, of_columns))
      return columns, (of_rows, of_columns)

    return jax.lax.fori_loop(0, size, turn, (columns, kept))[1]

  split = PartitionSpec(ring.axes)
  whole = jax.shard_map(local, mesh=ring.mesh, in_specs=split, out_specs=split, check_vma=False)
  return whole(rows, columns, kept)


def _block(body: Body, rows: Side, columns: Side, kept: tuple[Any, Any]) -> tuple[Any, Any]:
  """The walk over rows and columns of this device."""
  count, tile = len(rows.x), min(TILE, len(rows.x))
  pad = -count % tile
  fill = lambda side: jax.tree.map(lambda x: _pad(x, pad), side)._replace(index=_pad(side.index, pad, -1))
  rows, columns = fill(rows), fill(columns)
  of_rows, of_columns = jax.tree.map(lambda x: _pad(x, pad), kept)
  cut = lambda x: x.reshape(-1, tile, *x.shape[1:])

  def row(of_columns, xs):
    mine, of_mine = xs

    def column(j, carry):
      of_mine, of_columns = carry
      theirs, of_theirs = jax.tree.map(
        lambda x: jax.lax.dynamic_slice_in_dim(x, j * tile, tile), (columns, of_columns)
      )
      products = jnp.einsum("rd,cd->rc", mine.x, theirs.x, preferred_element_type=jnp.float32)
      of_mine, of_theirs = body(products, mine, theirs, of_mine, of_theirs)
      put = lambda x, part: jax.lax.dynamic_update_slice_in_dim(x, part, j * tile, 0)
      return of_mine, jax.tree.map(put, of_columns, of_theirs)

    of_mine, of_columns = jax.lax.fori_loop(0, (count + pad) // tile, column, (of_mine, of_columns))
    return of_columns, of_mine

  of_columns, of_rows = jax.lax.scan(row, of_columns, jax.tree.map(cut, (rows, of_rows)))
  of_rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), of_rows)
  return jax.tree.map(lambda x: x[:count], (of_rows, of_columns))


def _pad(x: Array, pad: int, value: int = 0) -> Array:
  return jnp.pad(x, ((0, pad), *((0, 0),) * (x.ndim - 1)), constant_values=value) if pad else x
