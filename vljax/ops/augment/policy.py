"""Policies that draw an operation and its strength for each image: AutoAugment and RandAugment.

Images are taken as 8 bits a channel, as the papers' operations of Pillow are defined, and a batch runs all operations
at once: places (shear, translate, rotate) by one look-up, blends with another image (brightness, color, contrast,
sharpness) by one sum, maps of values (posterize, solarize, auto-contrast, equalize, invert) by one table.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vljax.ops.augment import color
from vljax.types import Array, Float, Int, Rng

KINDS = (
  "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast",
  "sharpness", "posterize", "solarize", "auto_contrast", "equalize", "invert",
)  # fmt: skip
SIGNED = KINDS[1:10]
"""Kinds whose strength goes either way, at random."""

IMAGENET = (
  (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
  (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
  (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
  (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
  (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
  (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
  (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
  (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
  (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
  (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
  (("rotate", 0.8, 8), ("color", 0.4, 0)),
  (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
  (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
  (("invert", 0.6, 4), ("equalize", 1.0, 8)),
  (("color", 0.6, 4), ("contrast", 1.0, 8)),
  (("rotate", 0.8, 8), ("color", 1.0, 2)),
  (("color", 0.8, 8), ("solarize", 0.8, 7)),
  (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
  (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
  (("color", 0.4, 0), ("equalize", 0.6, 3)),
  (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
  (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
  (("invert", 0.6, 4), ("equalize", 1.0, 8)),
  (("color", 0.6, 4), ("contrast", 1.0, 8)),
  (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)
"""ImageNet's 25 sub-policies (table 9 of arXiv 1805.09501): two operations, each with its probability and a level of 0
to 9, which counts for nothing where a kind has no strength. Five stand there twice."""


def auto_augment(rng: Rng, images: Float[Array, "b h w 3"], fill: float = 0.0) -> Float[Array, "b h w 3"]:
  """One of ImageNet's 25 sub-policies for each image (arXiv 1805.09501); `fill` is what comes in from outside."""
  which, chance, sign = jax.random.split(rng, 3)
  b = len(images)
  table = lambda i, of: jnp.asarray([[of(step[i]) for step in pair] for pair in IMAGENET])
  chosen = jax.random.randint(which, (b,), 0, len(IMAGENET))
  kinds = table(0, KINDS.index)[chosen]
  happens = jax.random.uniform(chance, (b, 2)) < table(1, float)[chosen]
  strengths = table(2, float)[chosen] / 9
  return _run(sign, images, jnp.where(happens, kinds, 0), strengths, fill)


def rand_augment(
  rng: Rng,
  images: Float[Array, "b h w 3"],
  count: int = 2,
  magnitude: float = 9,
  fill: float = 0.0,
  p: float = 1.0,
  deviation: float = 0.0,
) -> Float[Array, "b h w 3"]:
  """`count` operations for each image, of 14 kinds that are equally likely (arXiv 1909.13719).

  Args:
    magnitude: their strength, of 30.
    p: the share of operations that happen.
    deviation: of each strength from the magnitude, normal.
  """
  which, sign = jax.random.split(rng)
  kinds = jax.random.randint(which, (len(images), count), 0, KINDS.index("invert"))
  chance, drawn = jax.random.split(jax.random.fold_in(rng, 2))
  happens = jax.random.uniform(chance, kinds.shape) < p
  strengths = jnp.clip((magnitude + deviation * jax.random.normal(drawn, kinds.shape)) / 30, 0, 1)
  return _run(sign, images, jnp.where(happens, kinds, 0), strengths, fill)


def _run(rng: Rng, images: Array, kinds: Int[Array, "b n"], strengths: Float[Array, "b n"], fill: float) -> Array:
  signed = jnp.asarray([kind in SIGNED for kind in KINDS])[kinds]
  signs = jnp.where(signed, jax.random.rademacher(rng, kinds.shape, jnp.float32), 1.0)
  step = lambda x, todo: (apply(x, todo[0], todo[1], 255 * fill), None)
  x, _ = jax.lax.scan(step, jnp.round(255 * images), (kinds.T, (signs * strengths).T))
  return x / 255


def apply(
  x: Float[Array, "b h w 3"], kind: Int[Array, " b"], strength: Float[Array, " b"], fill: float = 0.0
) -> Array:
  """One operation of each image, whose values are 0 to 255; `kind` is an index of KINDS, `strength` from -1 to 1.

  At strength 1 an image is sheared by 0.3, moved by 150 / 331 of its side, turned by 30 degrees, blended 1.9 to -0.9
  with the other image (at -1: 0.1 to 0.9), posterized to 4 bits or solarized from 0 on.
  """
  is_ = lambda name: kind == KINDS.index(name)
  return _map(_blend(_place(x, is_, strength, fill), is_, strength), is_, strength)


def _place(x: Array, is_, strength: Array, fill: float) -> Array:
  """The nearest pixel of where each one comes from: an affine map of the pixels' middles."""
  _, h, w, _ = x.shape
  turn = jnp.where(is_("rotate"), jnp.deg2rad(30.0) * strength, 0.0)
  cosine, sine = jnp.cos(turn), jnp.sin(turn)
  shear_x, shear_y = (jnp.where(is_(f"shear_{axis}"), 0.3 * strength, 0.0) for axis in "xy")
  pixels = lambda axis, side: jnp.where(is_(f"translate_{axis}"), jnp.trunc(150 / 331 * side * strength), 0.0)
  middle = np.array([w / 2, h / 2], np.float32)
  moved = jnp.stack([pixels("x", w), pixels("y", h)])
  at_x, at_y = jnp.arange(w) + 0.5, (jnp.arange(h) + 0.5)[:, None]
  each = lambda value: value[:, None, None]
  dx, dy = at_x - middle[0], at_y - middle[1]
  from_x = each(cosine) * dx - each(sine) * dy + middle[0] + each(shear_x) * at_y - each(moved[0])
  from_y = each(sine) * dx + each(cosine) * dy + middle[1] + each(shear_y) * at_x - each(moved[1])
  column, row = (jnp.floor(value).astype(jnp.int32) for value in (from_x, from_y))
  inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
  number = jnp.clip(row, 0, h - 1) * w + jnp.clip(column, 0, w - 1)
  found = jnp.take_along_axis(x.reshape(len(x), h * w, 3), number.reshape(len(x), h * w, 1), axis=1)
  return jnp.where(inside[..., None], found.reshape(x.shape), fill)


def _blend(x: Array, is_, strength: Array) -> Array:
  """other + (1 + 0.9 strength) (x - other), cut to whole numbers, where `other` is black, gray or smooth."""
  gray = jnp.floor((x @ jnp.array([19_595.0, 38_470.0, 7471.0]) + 32_768) / 65_536)[..., None]
  level = jnp.floor(gray.mean((1, 2, 3), keepdims=True) + 0.5)
  others = {"brightness": 0.0, "color": gray, "contrast": level, "sharpness": _smooth(x)}
  each = lambda value: value[:, None, None, None]
  other = jnp.select([each(is_(name)) for name in others], [jnp.broadcast_to(o, x.shape) for o in others.values()], x)
  return jnp.floor(jnp.clip(other + each(1 + 0.9 * strength) * (x - other), 0, 255))


def _smooth(x: Array) -> Array:
  """Pillow's SMOOTH: a pixel counts five times, its eight neighbors once; the border stays."""
  h, w = x.shape[1:3]
  total = 4 * x[:, 1:-1, 1:-1] + sum(x[:, i : h - 2 + i, j : w - 2 + j] for i in range(3) for j in range(3))
  return x.at[:, 1:-1, 1:-1].set(jnp.floor(total / 13 + 0.5))


def _map(x: Array, is_, strength: Array) -> Array:
  """Every value by a table of 256, one per image and channel."""
  levels = x.astype(jnp.int32)
  values = jnp.arange(color.BINS)
  each = lambda value: value[:, None, None]
  counts = jax.vmap(jax.vmap(color.histogram, -1))(levels)
  kept = 8 - jnp.round(4 * strength).astype(jnp.int32)
  full = color.BINS - 1
  lowest, highest = ((counts > 0).argmax(-1), full - (counts[..., ::-1] > 0).argmax(-1))
  span = jnp.maximum(highest - lowest, 1)[..., None]
  stretched = jnp.clip((values - lowest[..., None]) * full // span, 0, full)
  tables = {
    "posterize": values & each((full << (8 - kept)) & full),
    "solarize": jnp.where(values < each(full * (1 - strength)), values, full - values),
    "auto_contrast": jnp.where((highest > lowest)[..., None], stretched, values),
    "equalize": jax.vmap(jax.vmap(color.equalizing))(counts),
    "invert": full - values,
  }
  shape = counts.shape
  table = jnp.select(
    [each(is_(name)) for name in tables],
    [jnp.broadcast_to(t, shape) for t in tables.values()],
    jnp.broadcast_to(values, shape),
  )
  return jax.vmap(jax.vmap(lambda table, plane: table[plane], (0, -1), -1))(table, levels).astype(x.dtype)
