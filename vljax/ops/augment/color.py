"""Which colours pixels have; images are in [0, 1]."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from vljax import config
from vljax.ops.augment.chance import per_example, some
from vljax.types import Array, Float, Int, Rng

LUMA = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in brightness, as TensorFlow's rgb_to_grayscale has them."""

BINS = 256
Planes = tuple[Float[Array, "b h w"], Float[Array, "b h w"], Float[Array, "b h w"]]


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
  draw = lambda key, bounds: jax.random.uniform(key, (b, 1, 1), minval=bounds[0], maxval=bounds[1])
  operations = [
    (adjust, draw(keys[0], ranges[adjust])),
    (contrast, draw(keys[1], ranges[scale])),
    (saturate, draw(keys[2], ranges[scale])),
    (shift_hue, draw(keys[3], (-0.2 * strength, 0.2 * strength))),
  ]
  order = jax.vmap(lambda key: jax.random.permutation(key, 4))(jax.random.split(order_key, b))

  def turn(x: Planes, kind: Int[Array, " b"]) -> tuple[Planes, None]:
    chosen = [per_example(kind == i, x[0]) for i in range(4)]
    results = [function(x, amount) for function, amount in operations]
    red, green, blue = (jnp.clip(jnp.select(chosen, each), 0, 1) for each in zip(*results, strict=True))
    return (red, green, blue), None

  # A loop, since XLA would compute the first turns anew for each use in the later ones: ten times slower on CPUs.
  x, _ = jax.lax.scan(turn, planes(images), order.T)
  return some(chance, p, jnp.stack(x, -1), images)


def planes(images: Float[Array, "b h w 3"]) -> Planes:
  """Red, green and blue apart: vectors run along rows of pixels, where three channels would fill none."""
  return images[..., 0], images[..., 1], images[..., 2]


def scale(x: Planes, factor: Array) -> Planes:
  """factor * x."""
  return _each(lambda plane: plane * factor, x)


def add(x: Planes, amount: Array) -> Planes:
  """x + amount."""
  return _each(lambda plane: plane + amount, x)


def contrast(x: Planes, factor: Array) -> Planes:
  """Distances from each channel's mean over the image, multiplied."""

  def away(plane: Array) -> Array:
    mean = plane.mean((1, 2), keepdims=True)
    return mean + (plane - mean) * factor

  return _each(away, x)


def saturate(x: Planes, factor: Array) -> Planes:
  """HSV's saturation multiplied and cut at 1; hue and value stay."""
  value, chroma = _value_and_chroma(x)
  factor = jnp.minimum(factor, value / jnp.maximum(chroma, 1e-8))
  return _each(lambda plane: value - (value - plane) * factor, x)


def shift_hue(x: Planes, turn: Array) -> Planes:
  """HSV's hue moved by a share of the circle; saturation and value stay."""
  value, chroma = _value_and_chroma(x)
  red, green, blue = x
  safe = jnp.maximum(chroma, 1e-8)
  sextant = jnp.select(
    [value == red, value == green], [(green - blue) / safe, 2 + (blue - red) / safe], 4 + (red - green) / safe
  )
  sextant += 6 * turn

  def channel(offset: float) -> Array:
    k = offset + sextant
    k -= 6 * jnp.floor(k / 6)
    return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

  return channel(5.0), channel(3.0), channel(1.0)


def _each(function: Callable[[Array], Array], x: Planes) -> Planes:
  return function(x[0]), function(x[1]), function(x[2])


def _value_and_chroma(x: Planes) -> tuple[Array, Array]:
  value = jnp.maximum(jnp.maximum(x[0], x[1]), x[2])
  return value, value - jnp.minimum(jnp.minimum(x[0], x[1]), x[2])


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
  return equalizing(histogram(levels))[levels] / (BINS - 1)


def histogram(levels: Int[Array, "h w"]) -> Int[Array, " n"]:
  """How often each of 256 levels occurs."""
  return jnp.zeros(BINS, jnp.int32).at[levels.reshape(-1)].add(1)


def equalizing(counts: Int[Array, " n"]) -> Int[Array, " n"]:
  """Level to level, so that a histogram becomes flat; where one level has nearly all pixels, each to itself."""
  highest = counts[BINS - 1 - (counts[::-1] > 0).argmax()]
  step = (counts.sum() - highest) // (BINS - 1)
  before = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(counts)[:-1]])
  table = jnp.clip((step // 2 + before) // jnp.maximum(step, 1), 0, BINS - 1)
  return jnp.where(step > 0, table, jnp.arange(BINS))
