"""The softmax contrastive loss."""

import functools
from typing import Any

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

  Args:
    implementation: of `choice.IMPLEMENTATIONS`; None picks by the number of pairs and the mesh.

  Returns:
    The sum, and the metrics `accuracy` (share of images and texts whose own counterpart scores highest) and `scale`.

  Raises:
    ValueError: an implementation that is unknown or does not apply.
  """
  scale = jnp.asarray(scale, jnp.float32)
  form, ring = choose(implementation, len(image))
  arguments = image, text, scale, label_smoothing
  sums: Any = _plain(*arguments) if form == "plain" else _tiled(*arguments, ring)
  loss, accuracy = sums
  return loss, {"accuracy": jax.lax.stop_gradient(accuracy), "scale": scale}


def _plain(
  image: Float[Array, "n d"], text: Float[Array, "n d"], scale: Float[Array, ""], smoothing: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  logits = scale * (image.astype(jnp.float32) @ text.astype(jnp.float32).T)
  own = jnp.where(jnp.eye(len(logits), dtype=bool), logits, 0).sum(1)  # jnp.diagonal would gather sharded logits
  rows, columns = jax.nn.logsumexp(logits, axis=1), jax.nn.logsumexp(logits, axis=0)
  target = (1 - smoothing) * own
  if smoothing:
    target += smoothing / 2 * (logits.mean(1) + logits.mean(0))
  best = (own >= logits.max(1)).mean() + (own >= logits.max(0)).mean()
  return jnp.sum(0.5 * (rows + columns) - target), 0.5 * best


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _tiled(
  image: Float[Array, "n d"], text: Float[Array, "n d"], scale: Float[Array, ""], smoothing: float, ring: Ring
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  return _forward(image, text, scale, smoothing, ring)[0]


def _forward(image, text, scale, smoothing, ring):
  def body(products, rows, columns, of_rows, of_columns):
    logits = jnp.where((rows.index[:, None] >= 0) & (columns.index >= 0), scale * products, LOW)
    own = jnp.where(rows.index[:, None] == columns.index, logits, 0)
    return _add(of_rows, logits, own, 1), _add(of_columns, logits, own, 0)

  n = len(image)
  index = jnp.arange(n, dtype=jnp.int32)
  start = jnp.full(n, LOW), jnp.zeros(n), jnp.zeros(n)
  rows, columns = tiles.walk(body, tiles.Side(image, index), tiles.Side(text, index), (start, start), ring)
  (top, rest, own), (column_top, column_rest, _) = rows, columns
  loss = jnp.sum(0.5 * (top + jnp.log(rest) + column_top + jnp.log(column_rest)) - (1 - smoothing) * own)
  if smoothing:
    sums = image.astype(jnp.float32).sum(0), text.astype(jnp.float32).sum(0)
    loss -= smoothing / n * scale * (sums[0] @ sums[1])
  accuracy = 0.5 * ((own >= top).mean() + (own >= column_top).mean())
  # Not the log-sum-exps: exp(logit - top) / rest keeps the digits that exp(logit - lse) loses where it is nearly 1.
  return (loss, accuracy), (image, text, scale, (top, 1 / rest), (column_top, 1 / column_rest))


def _add(kept, logits: Float[Array, "r c"], own: Float[Array, "r c"], axis: int):
  """Maximum, sum of exponentials below it, and own score of rows (axis 1) or columns (0), one tile later."""
  top, rest, mine = kept
  new = jnp.maximum(top, logits.max(axis))
  rest = rest * jnp.exp(top - new) + jnp.exp(logits - jnp.expand_dims(new, axis)).sum(axis)
  return new, rest, mine + own.sum(axis)


def _backward(smoothing, ring, saved, cotangent):
  image, text, scale, of_images, of_texts = saved
  n = len(image)

  def body(products, rows, columns, of_rows, of_columns):
    logits = scale * products
    (top, share), (column_top, column_share) = rows.given, columns.given
    slope = 0.5 * jnp.exp(logits - top[:, None]) * share[:, None]
    slope += 0.5 * jnp.exp(logits - column_top) * column_share
    slope -= (1 - smoothing) * (rows.index[:, None] == columns.index) + smoothing / n
    return of_rows + slope @ columns.x, of_columns + slope.T @ rows.x

  index = jnp.arange(n, dtype=jnp.int32)
  start = jnp.zeros(image.shape, jnp.float32)
  sides = tiles.Side(image, index, of_images), tiles.Side(text, index, of_texts)
  of_rows, of_columns = tiles.walk(body, *sides, (start, start), ring)
  of_scale = jnp.sum(of_rows * image)
  g = cotangent[0]
  return (g * scale * of_rows).astype(image.dtype), (g * scale * of_columns).astype(text.dtype), g * of_scale


_tiled.defvjp(_forward, _backward)
