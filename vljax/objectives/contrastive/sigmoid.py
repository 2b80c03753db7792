"""The sigmoid contrastive loss."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.objectives.contrastive import tiles
from vljax.objectives.contrastive.choice import Ring, choose
from vljax.types import Metrics

LOW = -1e30
"""The score of what is not there."""


def sigmoid_contrastive(
  image: Float[Array, "n d"],
  text: Float[Array, "n d"],
  scale: Float[Array, ""] | float,
  bias: Float[Array, ""] | float,
  *,
  implementation: str | None = None,
) -> tuple[Float[Array, ""], Metrics]:
  """The sum over all couples of the binary cross-entropy of being a pair (SigLIP, arXiv 2303.15343, algorithm 1).

    loss = - sum_ij log sigmoid(z_ij (scale <image_i, text_j> + bias)),  z_ij = 1 where i = j, else -1

  Divided by the number of pairs it is the paper's. Computed in float32.

  Args:
    implementation: of `choice.IMPLEMENTATIONS`; None picks by the number of pairs and the mesh.

  Returns:
    The sum, and the metrics `accuracy` (share of images and texts whose own counterpart scores highest), `scale` and
    `bias`.

  Raises:
    ValueError: an implementation that is unknown or does not apply.
  """
  scale, bias = jnp.asarray(scale, jnp.float32), jnp.asarray(bias, jnp.float32)
  form, ring = choose(implementation, len(image))
  arguments = image, text, scale, bias
  sums: Any = _plain(*arguments) if form == "plain" else _tiled(*arguments, ring)
  loss, accuracy = sums
  return loss, {"accuracy": jax.lax.stop_gradient(accuracy), "scale": scale, "bias": bias}


def _plain(image, text, scale, bias) -> tuple[Float[Array, ""], Float[Array, ""]]:
  logits = scale * (image.astype(jnp.float32) @ text.astype(jnp.float32).T) + bias
  paired = jnp.eye(len(logits), dtype=bool)
  own = jnp.where(paired, logits, 0).sum(1)
  best = (own >= logits.max(1)).mean() + (own >= logits.max(0)).mean()
  return jax.nn.softplus(jnp.where(paired, -logits, logits)).sum(), 0.5 * best


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _tiled(image, text, scale, bias, ring: Ring) -> tuple[Float[Array, ""], Float[Array, ""]]:
  return _forward(image, text, scale, bias, ring)[0]


def _forward(image, text, scale, bias, ring):
  def body(products, rows, columns, of_rows, of_columns):
    real = (rows.index[:, None] >= 0) & (columns.index >= 0)
    paired = rows.index[:, None] == columns.index
    logits = jnp.where(real, scale * products + bias, LOW)
    losses = jnp.where(real, jax.nn.softplus(jnp.where(paired, -logits, logits)), 0)
    own = jnp.where(paired, logits, 0)
    loss, top, mine = of_rows
    column_top, column_mine = of_columns
    of_rows = loss + losses.sum(1), jnp.maximum(top, logits.max(1)), mine + own.sum(1)
    return of_rows, (jnp.maximum(column_top, logits.max(0)), column_mine + own.sum(0))

  n = len(image)
  index = jnp.arange(n, dtype=jnp.int32)
  low, zeros = jnp.full(n, LOW), jnp.zeros(n)
  start = (zeros, low, zeros), (low, zeros)
  rows, columns = tiles.walk(body, tiles.Side(image, index), tiles.Side(text, index), start, ring)
  (losses, top, own), (column_top, column_own) = rows, columns
  accuracy = 0.5 * ((own >= top).mean() + (column_own >= column_top).mean())
  return (losses.sum(), accuracy), (image, text, scale, bias)


def _backward(ring, saved, cotangent):
  image, text, scale, bias = saved

  def body(products, rows, columns, of_rows, of_columns):
    logits, paired = scale * products + bias, rows.index[:, None] == columns.index
    slope = jax.nn.sigmoid(logits) - paired
    slope = jnp.where((rows.index[:, None] >= 0) & (columns.index >= 0), slope, 0)
    of_rows, total = of_rows
    return (of_rows + slope @ columns.x, total + slope.sum(1)), of_columns + slope.T @ rows.x

  n = len(image)
  index = jnp.arange(n, dtype=jnp.int32)
  zeros = jnp.zeros(image.shape, jnp.float32)
  sides = tiles.Side(image, index), tiles.Side(text, index)
  (of_rows, total), of_columns = tiles.walk(body, *sides, ((zeros, jnp.zeros(n)), zeros), ring)
  g = cotangent[0]
  of_scale, of_bias = g * jnp.sum(of_rows * image), g * total.sum()
  return (g * scale * of_rows).astype(image.dtype), (g * scale * of_columns).astype(text.dtype), of_scale, of_bias


_tiled.defvjp(_forward, _backward)
