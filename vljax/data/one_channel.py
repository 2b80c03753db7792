"""Pictures of depth and heat: one channel of 8 or 16 bits, alone or in register with a photograph."""

import dataclasses

import numpy as np
from PIL import Image

from vljax.data import decode, images
from vljax.data.transform import Example, Transform, check_box, check_share, value_of


@dataclasses.dataclass(frozen=True)
class OneChannel(Transform):
  """A picture of depth or heat as float32 [size size 1] in [0, 1]; of 8 or 16 bits, the middle square, resized."""

  size: int
  field: str = "image"
  to: str = "depth"

  def __call__(self, example, rng):
    resized = images.resize(_levels(example, self.field), self.size, "shortest", "bilinear")
    left, top = ((n - self.size) // 2 for n in resized.size)
    square = resized.crop((left, top, left + self.size, top + self.size))
    return example | {self.to: np.asarray(square, np.float32)[..., None]}


@dataclasses.dataclass(frozen=True)
class AlignedCrop(Transform):
  """One random box, and one mirroring with probability `p`, of `image` and of the depth or heat seen with it.

  Attributes:
    field: a picture of 8 or 16 bits with the proportions of the image; becomes float32 [size size 1] in [0, 1].
  """

  size: int
  field: str
  scale: tuple[float, float] = (0.08, 1.0)
  ratio: tuple[float, float] = (3 / 4, 4 / 3)
  p: float = 0.5

  @property
  def random(self) -> bool:
    return True

  def __post_init__(self):
    super().__post_init__()
    check_box(self.scale, self.ratio)
    check_share("p", self.p)

  def __call__(self, example, rng):
    image = decode.open_rgb(value_of(example, "image"))
    other = _levels(example, self.field)
    wide, high = (b / a for a, b in zip(image.size, other.size, strict=True))
    if abs(wide / high - 1) > 0.02:
      raise ValueError(f"the image has {image.size} pixels, {self.field} {other.size}; legal: the same proportions")
    box = images.random_box(*image.size, self.scale, self.ratio, rng)
    same = tuple(side * share for side, share in zip(box, (wide, high) * 2, strict=True))
    pair = [
      decode.load(images.resized_crop(image, box, self.size)),
      other.resize((self.size, self.size), Image.Resampling.BILINEAR, same),
    ]
    first, second = map(images.flip_lr, pair) if rng.random() < self.p else pair
    return example | {"image": first, self.field: np.asarray(second, np.float32)[..., None]}


def _levels(example: Example, field: str) -> Image.Image:
  """A picture of one channel, of 8 or 16 bits, as floats in [0, 1]."""
  picture = decode.load(decode.open_any(value_of(example, field)))
  return Image.fromarray(decode.levels(picture, field))
