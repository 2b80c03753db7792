"""The media of a document as pixels: squares of one size, whose margins the normalization turns into zeros."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vljax.data import decode, images
from vljax.data.transform import Color, Interpolation, Transform, check_share, value_of

MEAN: Color = (123, 117, 104)
"""CLIP's mean as a color."""


@dataclasses.dataclass(frozen=True)
class Pictures(Transform):
  """The field `media` as `images`, uint8 [n f h w c]; each medium is mirrored with probability `p_flip`.

  Flamingo (arXiv 2204.14198, appendix A.3): the long side made `size`, the rest filled with the mean; its colors are
  changed later, on the device.

  Attributes:
    frames: of every medium; a picture has one.
    fill: the color of the margins, the mean that the recipe subtracts.
  """

  size: int
  frames: int = 1
  p_flip: float = 0.0
  fill: Color = MEAN
  interpolation: Interpolation = "bicubic"

  @property
  def random(self) -> bool:
    return self.p_flip > 0

  def __post_init__(self):
    super().__post_init__()
    check_share("p_flip", self.p_flip)
    if self.frames < 1:
      raise ValueError(f"frames = {self.frames}; legal: 1 or more")

  def __call__(self, example, rng):
    made = np.zeros((len(value_of(example, "media")), self.frames, self.size, self.size, 3), np.uint8)
    for pixels, medium in zip(made, example["media"], strict=True):
      frames = frames_of(medium)
      if len(frames) != self.frames:
        raise ValueError(f"a medium of {len(frames)} frames; pictures(frames = {self.frames})")
      pixels[:] = [square(frame, self.size, self.fill, self.interpolation) for frame in frames]
      if self.p_flip and rng.random() < self.p_flip:
        pixels[:] = pixels[:, :, ::-1].copy()
    return {name: value for name, value in example.items() if name != "media"} | {"images": made}


def square(
  picture: decode.Picture, size: int, fill: Color = MEAN, interpolation: str = "bicubic"
) -> UInt8[np.ndarray, "h w 3"]:
  """A whole picture, its long side made `size`, in the middle of a square of one color."""
  whole = decode.load(decode.open_rgb(picture))
  return np.asarray(images.pad_square(images.resize(whole, size, "longest", interpolation), fill))


def frames_of(medium: Any) -> list[decode.Picture]:
  """The frames of a medium: a list of pictures or an array [f h w c] holds several, anything else is one.

  Raises:
    ValueError: a clip without frames.
  """
  several = isinstance(medium, list | tuple) or (isinstance(medium, np.ndarray) and medium.ndim == 4)
  if several and not len(medium):
    raise ValueError("a clip of 0 frames; legal: 1 or more")
  return list(medium) if several else [medium]
