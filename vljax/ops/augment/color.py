"""Which colours pixels have; images are in [0, 1]."""

from typing import Literal

import jax
import jax.numpy as jnp

from vljax import config
from vljax.ops.augment.chance import per_example, some
from vljax.types import Array, Float, Rng

LUMA = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in brightness, as TensorFlow's rgb_to_grayscale has them."""

BINS = 256


def color_jitter(
  rng: Rng,
  images: Float[Array, "b h w 3"],
  strength: float = 1.0,
  p: float = 0.8,
  brightness: Literal["multiply", "add"] = "multiply",
) -> Float[Array, "b h w 3"]:
  """Brightness, contrast, saturation and hue in random order, clipped after each (SimCLR, arXiv 2002.05709, app. A).

  Args:
    strength: s; brightness, contrast and saturation change by up to 0.8 s, hue by up to 0.2 s of the circle.
    p: the share of images that are changed at all.
    brightness: a factor (SimCLRv2's code) or a summand (v1's).
  """
  adjust = config.choose("brightness of color_jitter", brightness, {"multiply": scale, "add": add})
  b = len(images)
  *keys, order_key, chance = jax.random.split(rng, 6)
  low = 1 - 0.8 * strength
  ranges = {scale: (max(low, 0), 1 + 0.8 * strength), add: (-0.8 * strength, 0.8 * strength)}
  draw = lambda key, bounds: jax.random.uniform(key, (b,), minval=bounds[0], maxval=bounds[1])
  operations = [
    (adjust, draw(keys[0], ranges[adjust])),
    (contrast, draw(keys[1], ranges[scale])),
    (saturate, draw(keys[2], ranges[scale])),
    (shift_hue, draw(keys[3], (-0.2 * strength, 0.2 * strength))),
  ]
  order = jax.vmap(lambda key: jax.random.permutation(key, 4))(jax.random.split(order_key, b))
  x = images
  for turn in range(4):
    results = [function(x, per_example(amount, x)) for function, amount in operations]
    x = jnp.clip(jnp.select([per_example(order[:, turn] == i, x) for i in range(4)], results), 0, 1)
  return some(chance, p, x, images)


def scale(images: Float[Array, "b h w c"], factor: Array) -> Float[Array, "b h w c"]:
  """factor * x."""
  return images * factor


def add(images: Float[Array, "b h w c"], amount: Array) -> Float[Array, "b h w c"]:
  """x + amount."""
  return images + amount


def contrast(images: Float[Array, "b h w c"], factor: Array) -> Float[Array, "b h w c"]:
  """Distances from each channel's mean over the image, multiplied."""
  mean = images.mean((1, 2), keepdims=True)
  return mean + (images - mean) * factor


def saturate(images: Float[Array, "b h w 3"], factor: Array) -> Float[Array, "b h w 3"]:
  """HSV's saturation multiplied and cut at 1; hue and value stay."""
  value, chroma = _value_and_chroma(images)
  factor = jnp.minimum(factor, value / jnp.maximum(chroma, 1e-8))
  return value - (value - images) * factor


def shift_hue(images: Float[Array, "b h w 3"], turn: Array) -> Float[Array, "b h w 3"]:
  """HSV's hue moved by a share of the circle; saturation and value stay."""
  value, chroma = _value_and_chroma(images)
  red, green, blue = (images[..., i : i + 1] for i in range(3))
  safe = jnp.maximum(chroma, 1e-8)
  sextant = jnp.select(
    [value == red, value == green], [(green - blue) / safe, 2 + (blue - red) / safe], 4 + (red - green) / safe
  )
  k = (jnp.array([5.0, 3.0, 1.0]) + sextant + 6 * turn) % 6
  return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)


def _value_and_chroma(images: Float[Array, "b h w 3"]) -> tuple[Array, Array]:
  value = images.max(-1, keepdims=True)
  return value, value - images.min(-1, keepdims=True)


def grayscale(rng: Rng, images: Float[Array, "b h w 3"], p: float = 0.2) -> Float[Array, "b h w 3"]:
  """All channels the brightness, with probability p."""
  gray = (images @ jnp.array(LUMA))[..., None]
  return some(rng, p, jnp.broadcast_to(gray, images.shape), images)


def solarize(
  rng: Rng, images: Float[Array, "b h w c"], threshold: float = 0.5, p: float = 0.2
) -> Float[Array, "b h w c"]:
  """Values from the threshold up are inverted, with probability p."""
  return some(rng, p, jnp.where(images < threshold, images, 1 - images), images)


def equalize(rng: Rng, images: Float[Array, "b h w c"], p: float = 0.2) -> Float[Array, "b h w c"]:
  """Each channel's histogram of 256 values made flat, as Pillow's ImageOps.equalize does, with probability p."""
  return some(rng, p, jax.vmap(jax.vmap(_equalize, -1, -1))(images), images)


def _equalize(channel: Float[Array, "h w"]) -> Float[Array, "h w"]:
  levels = jnp.round(channel * (BINS - 1)).astype(jnp.int32)
  counts = jnp.zeros(BINS, jnp.int32).at[levels.reshape(-1)].add(1)
  highest = counts[BINS - 1 - (counts[::-1] > 0).argmax()]
  step = (levels.size - highest) // (BINS - 1)
  before = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(counts)[:-1]])
  table = jnp.clip((step // 2 + before) // jnp.maximum(step, 1), 0, BINS - 1)
  return jnp.where(step > 0, table[levels] / (BINS - 1), channel)
