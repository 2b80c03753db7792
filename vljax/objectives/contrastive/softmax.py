"""The softmax contrastive loss."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.objectives.contrastive import tiles
from vljax.objectives.contrastive.choice import Ring, choose
from vljax.types import Metrics

LOW = -1e30
"""The score of what is not there: finite, so that no difference of two is NaN."""


def softmax_contrastive(
  image: Float[Array, "n d"],
  text: Float[Array, "n d"],
  scale: Float[Array, ""] | float,
  *,
  label_smoothing: float = 0.0,
  implementation: str | None = None,
) -> tuple[Float[Array, ""], Metrics]:
  """The sum over pairs of the mean of both directions' cross-entropies (CLIP, arXiv 2103.00020, figure 3).

    logits l_ij = scale <image_i, text_j>
    loss = 1/2 sum_i [ -log softmax_j(l_ij)_i - log softmax_j(l_ji)_i ]

  With smoothing e the target of row i is (1 - e) on i and e / n on all n texts, i among them (ALIGN, arXiv 2102.05918,
  section 4). One product of the features serves both directions. Computed in float32; under any sharding of the
  pairs it is the same number, since the arrays are global.

  A pair's own score l_ii is kept apart from those of the others: -log softmax_j(l_ij)_i is
  log(1 + exp(r_i - l_ii)) with r_i = log sum_{j != i} exp(l_ij). So neither the loss of learned pairs, where the
  softmax is nearly 1, nor the gradients of new ones, which are one large term and many small ones, lose digits.

  Args:
    implementation: of `choice.IMPLEMENTATIONS`; None picks by the number of pairs and the mesh.

  Returns:
    The sum, and the metrics `accuracy` (share of images and texts whose own counterpart scores highest) and `scale`.

  Raises:
    ValueError: an implementation that is unknown or does not apply.
  """
  scale = jnp.asarray(scale, jnp.float32)
  form, ring = choose(implementation, len(image))
  dtype = jnp.promote_types(image.dtype, text.dtype)
  image, text = image.astype(jnp.float32), text.astype(jnp.float32)
  others: Any = _plain(image, text, scale) if form == "plain" else _tiled(image, text, scale, dtype, ring)
  own = scale * (image * text).sum(1)
  loss = 0.5 * (jax.nn.softplus(others.rows - own) + jax.nn.softplus(others.columns - own)).sum()
  if label_smoothing:
    loss += label_smoothing * (own.sum() - scale / len(image) * (image.sum(0) @ text.sum(0)))
  accuracy = 0.5 * ((own >= others.row_top).mean() + (own >= others.column_top).mean())
  return loss, {"accuracy": jax.lax.stop_gradient(accuracy), "scale": scale}


class Others(NamedTuple):
  """Of the scores of every image (row) and every text (column) with the others' counterparts: log-sum-exp and top."""

  rows: Float[Array, " n"]
  columns: Float[Array, " n"]
  row_top: Float[Array, " n"]
  column_top: Float[Array, " n"]


def _plain(image: Float[Array, "n d"], text: Float[Array, "n d"], scale: Float[Array, ""]) -> Others:
  logits = jnp.where(jnp.eye(len(image), dtype=bool), LOW, scale * (image @ text.T))
  return Others(jax.nn.logsumexp(logits, 1), jax.nn.logsumexp(logits, 0), logits.max(1), logits.max(0))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _tiled(
  image: Float[Array, "n d"], text: Float[Array, "n d"], scale: Float[Array, ""], dtype: Any, ring: Ring
) -> Others:
  """`dtype` is what the features had: what tiles are computed from, and what travels around the ring."""
  return _forward(image, text, scale, dtype, ring)[0]


def _forward(image, text, scale, dtype, ring):
  def body(products, rows, columns, of_rows, of_columns):
    logits = jnp.where(tiles.others(rows, columns), scale * products, LOW)
    return _add(of_rows, logits, 1), _add(of_columns, logits, 0)

  start = jnp.full(len(image), LOW), jnp.zeros(len(image))
  sides = tiles.sides(image.astype(dtype), text.astype(dtype))
  (top, rest), (column_top, column_rest) = tiles.walk(body, *sides, (start, start), ring)
  others = Others(top + jnp.log(rest), column_top + jnp.log(column_rest), top, column_top)
  return others, (image, text, scale, (top, rest), (column_top, column_rest))


def _add(kept: tuple[Array, Array], logits: Float[Array, "r c"], axis: int) -> tuple[Array, Array]:
  """Maximum, and sum of exponentials below it, of rows (axis 1) or columns (0), one tile later."""
  top, rest = kept
  new = jnp.maximum(top, logits.max(axis))
  return new, rest * jnp.exp(top - new) + jnp.exp(logits - jnp.expand_dims(new, axis)).sum(axis)


def _backward(dtype, ring, saved, cotangent):
  image, text, scale, (top, rest), (column_top, column_rest) = saved

  def body(products, rows, columns, of_rows, of_columns):
    logits = jnp.where(tiles.others(rows, columns), scale * products, LOW)
    (top, share), (column_top, column_share) = rows.given, columns.given
    slope = jnp.exp(logits - top[:, None]) * share[:, None] + jnp.exp(logits - column_top) * column_share
    return of_rows + slope @ columns.x, of_columns + slope.T @ rows.x

  given = (top, cotangent.rows / rest), (column_top, cotangent.columns / column_rest)
  zeros = jnp.zeros(image.shape, jnp.float32)
  sides = tiles.sides(image.astype(dtype), text.astype(dtype), *given)
  of_rows, of_columns = tiles.walk(body, *sides, (zeros, zeros), ring)
  return scale * of_rows, scale * of_columns, jnp.sum(of_rows * image)


_tiled.defvjp(_forward, _backward)
