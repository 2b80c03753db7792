"""What features know of the transformation that a picture went through (SimCLR, arXiv 2002.05709, table 3)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vljax.evaluate import features, mlp
from vljax.evaluate.gallery import Gallery
from vljax.ops import augment
from vljax.types import Array, Int, Params, UInt8

Change = Callable[
  [UInt8[np.ndarray, "b h w 3"], Int[np.ndarray, " b"], Int[np.ndarray, " b"]], UInt8[Array, "b h w 3"]
]
"""(pictures, number of each, choice for each) -> pictures."""


def change(choices: Sequence[Sequence[Any]], size: int) -> Change:
  """Square pictures after one of the choices each, drawn by the picture's number, whatever it is batched with.

  Args:
    choices: each a list of steps of `vljax.ops.augment`; an empty one leaves the picture as it is.

  Raises:
    ValueError: a step that is unknown, does not run, or changes a picture's size; names the choice.
  """
  functions = [augment.build(steps) for steps in choices]
  shape = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  for steps, function in zip(choices, functions, strict=True):
    try:
      made = jax.eval_shape(function, jax.random.key(0), shape)
    except (TypeError, ValueError) as error:
      raise ValueError(f"{steps} does not run on pictures of {size} pixels: {error}") from error
    if made.shape != shape.shape:
      raise ValueError(
        f"{steps} makes pictures {made.shape[1:]} of {shape.shape[1:]}; legal: steps that keep the size"
      )

  def one(image: UInt8[Array, "h w 3"], number: Int[Array, ""], choice: Int[Array, ""]) -> UInt8[Array, "h w 3"]:
    rng, unit = jax.random.fold_in(jax.random.key(0), number), image[None].astype(jnp.float32) / 255
    forms = jnp.stack([function(rng, unit)[0] for function in functions])
    return jnp.round(255 * forms[choice]).astype(jnp.uint8)

  return jax.jit(jax.vmap(one))


def evaluate(
  asked: Gallery,
  labelled: Gallery,
  changed: Change,
  shares: Sequence[float],
  predict: Mapping[str, Callable],
  params: Params,
) -> dict[str, float]:
  """Accuracy of MLPs that tell each picture's transformation from its features, and from their projection.

  The MLPs learn from the labelled pictures, whose classes do not matter; each picture goes through one choice.

  Args:
    shares: how often each choice is drawn.
    predict: has `encode_image(params, image)` and `project(params, features)`.

  Returns:
    `features/top1`, `projection/top1`, and the chance of both: the share of the choice that was drawn most.
  """
  sides = [_encode(gallery, changed, shares, seed, predict, params) for seed, gallery in enumerate((labelled, asked))]
  (known, train), (told, test) = sides
  found = {name: mlp.evaluate(train[name], known, test[name], told) for name in train}
  return {f"{name}/{metric}": value for name, metrics in found.items() for metric, value in metrics.items()}


def _encode(
  gallery: Gallery,
  changed: Change,
  shares: Sequence[float],
  seed: int,
  predict: Mapping[str, Callable],
  params: Params,
) -> tuple[Int[np.ndarray, " n"], dict[str, np.ndarray]]:
  """The choice for each picture, and its features before and behind the head; `seed` is 0 or 1."""
  choice = np.random.default_rng(seed).choice(len(shares), len(gallery), p=shares)

  def encode(indices: list[int]) -> Array:
    images = np.stack([gallery.image(i) for i in indices])
    return predict["encode_image"](params, changed(images, 2 * np.array(indices) + seed, choice[indices]))

  h = features.encode(encode, range(len(gallery)), gallery.batch)
  z = features.encode(lambda part: predict["project"](params, np.stack(part)), h, gallery.batch)
  return choice, {"features": h, "projection": z}
