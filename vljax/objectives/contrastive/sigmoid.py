"""The sigmoid contrastive loss."""

import functools
from typing import Any, NamedTuple

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
  dtype = jnp.promote_types(image.dtype, text.dtype)
  image, text = image.astype(jnp.float32), text.astype(jnp.float32)
  arguments = image, text, scale, bias
  others: Any = _plain(*arguments) if form == "plain" else _tiled(*arguments, dtype, ring)
  own = scale * (image * text).sum(1) + bias  # apart: one large term of each gradient beside many small ones
  loss = others.loss + jax.nn.softplus(-own).sum()
  accuracy = 0.5 * ((own >= others.row_top).mean() + (own >= others.column_top).mean())
  return loss, {"accuracy": jax.lax.stop_gradient(accuracy), "scale": scale, "bias": bias}


class Others(NamedTuple):
  """Of the scores with the others' counterparts: the sum of their losses, and the top of each image and each text."""

  loss: Float[Array, ""]
  row_top: Float[Array, " n"]
  column_top: Float[Array, " n"]


def _plain(image, text, scale, bias) -> Others:
  logits = jnp.where(jnp.eye(len(image), dtype=bool), LOW, scale * (image @ text.T) + bias)
  return Others(jax.nn.softplus(logits).sum(), logits.max(1), logits.max(0))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _tiled(image, text, scale, bias, dtype: Any, ring: Ring) -> Others:
  """`dtype` is what the features had: what tiles are computed from, and what travels around the ring."""
  return _forward(image, text, scale, bias, dtype, ring)[0]


def _forward(image, text, scale, bias, dtype, ring):
  def body(products, rows, columns, of_rows, of_columns):
    logits = jnp.where(tiles.others(rows, columns), scale * products + bias, LOW)
    loss, top = of_rows
    return (loss + jax.nn.softplus(logits).sum(1), jnp.maximum(top, logits.max(1))), jnp.maximum(
      of_columns, logits.max(0)
    )

  low = jnp.full(len(image), LOW)
  sides = tiles.sides(image.astype(dtype), text.astype(dtype))
  (losses, top), column_top = tiles.walk(body, *sides, ((jnp.zeros(len(image)), low), low), ring)
  return Others(losses.sum(), top, column_top), (image, text, scale, bias)


def _backward(dtype, ring, saved, cotangent):
  image, text, scale, bias = saved

  def body(products, rows, columns, of_rows, of_columns):
    slope = jnp.where(tiles.others(rows, columns), jax.nn.sigmoid(scale * products + bias), 0)
    of_rows, total = of_rows
    return (of_rows + slope @ columns.x, total + slope.sum(1)), of_columns + slope.T @ rows.x

  zeros = jnp.zeros(image.shape, jnp.float32)
  sides = tiles.sides(image.astype(dtype), text.astype(dtype))
  (of_rows, total), of_columns = tiles.walk(body, *sides, ((zeros, jnp.zeros(len(image))), zeros), ring)
  g = cotangent.loss
  return g * scale * of_rows, g * scale * of_columns, g * jnp.sum(of_rows * image), g * total.sum()


_tiled.defvjp(_forward, _backward)
