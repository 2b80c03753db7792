"""Geometry of images on the host: PIL images in, PIL images out; sizes are in pixels."""

import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from vljax import config
from vljax.data import decode

Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""

INTERPOLATIONS = {
  "nearest": Image.Resampling.NEAREST,
  "bilinear": Image.Resampling.BILINEAR,
  "bicubic": Image.Resampling.BICUBIC,
  "lanczos": Image.Resampling.LANCZOS,
  "box": Image.Resampling.BOX,
}
RESIZE_MODES = ("shortest", "longest", "squash")
"""How an image becomes a square: short side and crop (CLIP), long side and pad, or stretch (SigLIP)."""


def preprocess(
  picture: decode.Picture, size: int, mode: str = "shortest", interpolation: str = "bicubic", crop: float = 1.0
) -> UInt8[np.ndarray, "h w 3"]:
  """What published towers are shown, before normalization: [size size 3].

  Bit-equal to torchvision's Resize and CenterCrop on PIL images followed by `convert("RGB")`, as OpenAI's and
  open_clip's evaluation transforms do: the color mode changes last, so a palette image is resized by nearest neighbor
  and a transparent one with its colors weighted by alpha. Hugging Face's processor converts first, and rounds an odd
  crop down where torchvision rounds to even; the pixels are the same otherwise. `longest` is open_clip's (pad with
  black), `squash` ignores the aspect ratio. Pictures of 16 bits differ from theirs: they clip these at 255; here
  65,535 is white.

  Args:
    crop: the share of the resized short side that the square in the middle keeps (timm's crop_pct).

  Raises:
    ValueError: an unknown mode, a picture that cannot be read, or a crop out of (0, 1] or beside another mode.
  """
  config.choose("resize mode", mode, dict.fromkeys(RESIZE_MODES))
  if not 0 < crop <= 1 or (crop < 1 and mode != "shortest"):
    raise ValueError(f"crop = {crop} with mode {mode!r}; legal: 'shortest' with above 0 to 1, others with 1")
  image = decode.eight_bits(decode.load(decode.open_any(picture)))
  image = resize(image, int(size / crop), mode, interpolation)
  return decode.to_array(center_crop(image, size))


def resize(image: Image.Image, size: int, mode: str = "shortest", interpolation: str = "bicubic") -> Image.Image:
  """The short side (`shortest`), the long side (`longest`) or both sides (`squash`) made `size`."""
  wide, high = image.size
  if mode == "squash":
    shape = (size, size)
  elif mode == "longest":
    ratio = max(wide, high) / size
    shape = (max(1, round(wide / ratio)), max(1, round(high / ratio)))
  else:
    short, long = min(wide, high), int(size * max(wide, high) / min(wide, high))
    shape = (size, long) if wide <= high else (long, size)
    if short == size:
      return image
  return image.resize(shape, INTERPOLATIONS[interpolation])


def center_crop(image: Image.Image, size: int) -> Image.Image:
  """The middle [size size]; a smaller image is padded with black, the odd pixel at right and bottom."""
  if image.width < size or image.height < size:
    wide, high = max(0, size - image.width), max(0, size - image.height)
    image = ImageOps.expand(image, (wide // 2, high // 2, wide - wide // 2, high - high // 2))
  left, top = round((image.width - size) / 2), round((image.height - size) / 2)
  return image.crop((left, top, left + size, top + size))


def pad_square(image: Image.Image, fill: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
  """The whole image in the middle of a square of `fill`, the odd pixel at right or bottom."""
  side = max(image.size)
  square = Image.new("RGB", (side, side), fill)
  square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
  return square


def flip_lr(image: Image.Image) -> Image.Image:
  """The mirror image."""
  return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def random_box(
  width: int,
  height: int,
  scale: tuple[float, float],
  ratio: tuple[float, float],
  rng: np.random.Generator,
) -> Box:
  """A crop of an area share uniform in `scale` and an aspect ratio log-uniform in `ratio`.

  torchvision's rule, after Inception (arXiv 1409.4842): ten draws; if none fits, the largest centered crop whose
  aspect ratio is in range.
  """
  low, high = math.log(ratio[0]), math.log(ratio[1])
  for _ in range(10):
    area = width * height * rng.uniform(*scale)
    aspect = math.exp(rng.uniform(low, high))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
      return left, top, left + w, top + h
  if width / height < ratio[0]:
    w, h = width, min(height, round(width / ratio[0]))
  elif width / height > ratio[1]:
    w, h = min(width, round(height * ratio[1])), height
  else:
    w, h = width, height
  left, top = (width - w) // 2, (height - h) // 2
  return left, top, left + w, top + h


def resized_crop(
  image: Image.Image, box: Box, size: int, interpolation: str = "bicubic", gap: float | None = None
) -> Image.Image:
  """The box of an image as [size size].

  Without `gap`, equal to torchvision's resized_crop on PIL images. With it, several times faster on large pictures
  and not bit-equal: a JPEG that was not read yet is decoded at 1/2, 1/4 or 1/8 of its size, any other picture is
  averaged in whole blocks, as long as the crop keeps at least `gap` times `size` pixels a side; and the pixels just
  outside the box count for those at its border.
  """
  shape, filter = (size, size), INTERPOLATIONS[interpolation]
  if gap is None:
    return decode.load(image).crop(box).resize(shape, filter)
  part = _draft(image, box, math.ceil(gap * size)) if decode.is_lazy_jpeg(image) else box
  return decode.load(image).resize(shape, filter, part, gap)


def _draft(image: Image.Image, box: Box, need: int) -> tuple[float, ...]:
  """Asks the decoder for the smallest size at which the box has `need` pixels a side; the box at that size."""
  width, wide, high = image.width, box[2] - box[0], box[3] - box[1]
  image.draft("RGB", (math.ceil(width * need / wide), math.ceil(image.height * need / high)))
  scale = 1 / round(width / image.width)
  return tuple(min(end, side * scale) for end, side in zip(image.size * 2, box, strict=True))
