"""Where pixels go."""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from vljax import config
from vljax.ops.augment.chance import per_example, some
from vljax.types import Array, Float, Rng


def _cubic(x: Array) -> Array:
  """Keys' kernel with a = -0.5, as Pillow's bicubic."""
  x = jnp.abs(x)
  near = (1.5 * x - 2.5) * x * x + 1
  far = ((-0.5 * x + 2.5) * x - 4) * x + 2
  return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


KERNELS = {"bicubic": _cubic, "bilinear": lambda x: jnp.maximum(1 - jnp.abs(x), 0)}


def random_resized_crop(
  rng: Rng,
  images: Float[Array, "b h w c"],
  size: int,
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
  interpolation: Literal["bicubic", "bilinear"] = "bicubic",
) -> Float[Array, "b size size c"]:
  """A box of a random share `scale` of the area and random aspect `ratio`, resized to a square (arXiv 1409.4842).

  A box that would leave the image is cut to it, where SimCLR's code draws again.
  """
  b, h, w, _ = images.shape
  keys = jax.random.split(rng, 4)
  area = h * w * jax.random.uniform(keys[0], (b,), minval=scale[0], maxval=scale[1])
  aspect = jnp.exp(jax.random.uniform(keys[1], (b,), minval=math.log(ratio[0]), maxval=math.log(ratio[1])))
  height = jnp.clip(jnp.sqrt(area / aspect), 1, h)
  width = jnp.clip(jnp.sqrt(area * aspect), 1, w)
  top = jax.random.uniform(keys[2], (b,)) * (h - height)
  left = jax.random.uniform(keys[3], (b,)) * (w - width)
  return crop_and_resize(images, jnp.stack([top, left, height, width], 1), size, interpolation)


def crop_and_resize(
  images: Float[Array, "b h w c"],
  boxes: Float[Array, "b 4"],
  size: int,
  interpolation: Literal["bicubic", "bilinear"] = "bicubic",
) -> Float[Array, "b size size c"]:
  """The box (top, left, height, width, in pixels) of each image, resized as Pillow does: antialiased when it shrinks.

  Two matrix products per image, one along each axis; the result is clipped to [0, 1].

  Raises:
    ValueError: an unknown interpolation.
  """
  kernel = config.choose("interpolation", interpolation, KERNELS)

  def weights(start: Float[Array, " b"], length: Float[Array, " b"], pixels: int) -> Float[Array, "b size p"]:
    step = (length / size)[:, None, None]
    centre = start[:, None, None] + (jnp.arange(size)[:, None] + 0.5) * step
    pixel = jnp.arange(pixels) + 0.5
    inside = (pixel > start[:, None, None]) & (pixel < (start + length)[:, None, None])
    x = jnp.where(inside, kernel((pixel - centre) / jnp.maximum(step, 1)), 0)
    return x / x.sum(-1, keepdims=True)

  rows = weights(boxes[:, 0], boxes[:, 2], images.shape[1])
  columns = weights(boxes[:, 1], boxes[:, 3], images.shape[2])
  return jnp.clip(jnp.einsum("bih,bhwc,bjw->bijc", rows, images, columns, optimize="optimal"), 0, 1)


def flip_lr(rng: Rng, images: Float[Array, "b h w c"], p: float = 0.5) -> Float[Array, "b h w c"]:
  """Left and right exchanged, with probability p."""
  return some(rng, p, images[:, :, ::-1], images)


def rotate(
  rng: Rng, images: Float[Array, "b h w c"], degrees: tuple[int, ...] = (0, 90, 180, 270)
) -> Float[Array, "b h w c"]:
  """A turn by one of `degrees`, multiples of 90 (SimCLR's pair grid; images must be square).

  Raises:
    ValueError: another angle, or images that are not square.
  """
  if any(d % 90 for d in degrees):
    raise ValueError(f"rotate by {degrees}; legal: multiples of 90 degrees")
  if images.shape[1] != images.shape[2]:
    raise ValueError(f"rotate needs square images; found {images.shape[1]} x {images.shape[2]}")
  chosen = jax.random.choice(rng, jnp.array([d // 90 % 4 for d in degrees]), images.shape[:1])
  turned = [jnp.rot90(images, k, (1, 2)) for k in range(4)]
  return jnp.select([per_example(chosen == k, images) for k in range(4)], turned)


def cutout(rng: Rng, images: Float[Array, "b h w c"], size: int, fill: float = 0.5) -> Float[Array, "b h w c"]:
  """A square of `size` pixels around a random pixel painted `fill` (arXiv 1708.04552); it may reach over the edge."""
  b, h, w, _ = images.shape
  keys = jax.random.split(rng)
  hidden = []
  for key, pixels in zip(keys, (h, w), strict=True):
    first = jax.random.randint(key, (b, 1), 0, pixels) - size // 2
    hidden.append((jnp.arange(pixels) >= first) & (jnp.arange(pixels) < first + size))
  return jnp.where((hidden[0][:, :, None] & hidden[1][:, None])[..., None], fill, images)


def random_erasing(
  rng: Rng,
  images: Float[Array, "b h w c"],
  p: float = 0.25,
  area: tuple[float, float] = (0.02, 1 / 3),
  ratio: tuple[float, float] = (0.3, 1 / 0.3),
  fill: float = 0.0,
) -> Float[Array, "b h w c"]:
  """With probability p a box of a random share `area` and aspect `ratio` is painted `fill` (arXiv 1708.04896).

  A box that is larger than the image along a side is cut to it, where the paper draws again.
  """
  b, h, w, _ = images.shape
  chance, *keys = jax.random.split(rng, 5)
  share = h * w * jax.random.uniform(keys[0], (b, 1), minval=area[0], maxval=area[1])
  aspect = jnp.exp(jax.random.uniform(keys[1], (b, 1), minval=math.log(ratio[0]), maxval=math.log(ratio[1])))
  hidden = []
  for key, pixels, side in zip(keys[2:], (h, w), (jnp.sqrt(share * aspect), jnp.sqrt(share / aspect)), strict=True):
    length = jnp.clip(jnp.round(side), 1, pixels)
    first = jnp.floor(jax.random.uniform(key, (b, 1)) * (pixels - length + 1))
    hidden.append((jnp.arange(pixels) >= first) & (jnp.arange(pixels) < first + length))
  erased = jnp.where((hidden[0][:, :, None] & hidden[1][:, None])[..., None], fill, images)
  return some(chance, p, erased, images)
