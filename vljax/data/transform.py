"""What every step of a pipeline is: see `transforms` for the steps by name."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from PIL import Image

from vljax import config
from vljax.data import decode

Example = dict[str, Any]
Interpolation = Literal["bicubic", "bilinear", "nearest", "lanczos", "box"]
ResizeMode = Literal["shortest", "longest", "squash"]
Color = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Transform:
  """A step of a pipeline: an example in, the fields it changes out."""

  @property
  def random(self) -> bool:
    """Whether the step draws from `rng`; the steps before the first such one may be cached."""
    return False

  def __post_init__(self):
    size = getattr(self, "size", 1)
    if size < 1:
      raise ValueError(f"size = {size}; legal: 1 or more pixels")

  def __call__(self, example: Example, rng: np.random.Generator | None) -> Example:
    raise TypeError(f"{type(self).__name__} is abstract")


class ImageTransform(Transform):
  """A step on the field `image` alone."""

  def apply(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
    raise TypeError(f"{type(self).__name__} is abstract")

  def __call__(self, example, rng):
    return example | {"image": self.apply(decode.open_rgb(value_of(example, "image")), rng)}


def value_of(example: Mapping[str, Any], name: str) -> Any:
  """A field of an example.

  Raises:
    ValueError: there is none; the nearest name is given.
  """
  if name not in example:
    raise ValueError(config.unknown(f"field {name!r} of an example", name, example))
  return example[name]


def check_share(name: str, value: float) -> None:
  """Raises ValueError unless the value is a probability."""
  if not 0 <= value <= 1:
    raise ValueError(f"{name} = {value}; legal: 0 to 1")


def check_box(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
  """Raises ValueError unless boxes can be drawn with these shares of the area and these aspect ratios."""
  if not 0 < scale[0] <= scale[1] <= 1:
    raise ValueError(f"scale = {scale}; legal: two shares of the area, 0 < low <= high <= 1")
  if not 0 < ratio[0] <= ratio[1]:
    raise ValueError(f"ratio = {ratio}; legal: two aspect ratios, 0 < low <= high")
