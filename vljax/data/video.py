"""Clips: the frames of an animation or a filmstrip, taken at a rate."""

import bisect
import dataclasses
from typing import Any, Literal

import numpy as np
from PIL import Image

from vljax.data import decode, pictures
from vljax.data.transform import Transform, value_of

TICK = 0.1
"""Seconds that a frame is shown where a file names none, as browsers have it."""


@dataclasses.dataclass(frozen=True)
class Clip(Transform):
  """`count` frames of a video as the field `to`, a list of pictures.

  A video is an animated GIF, WebP or PNG, a list of pictures, or a filmstrip: one picture of square frames side by
  side. With a `rate` the frames are 1 / rate seconds apart, and the last one stays when the video ends before the
  clip; without, they lie evenly over the whole video. Flamingo (arXiv 2204.14198, appendix B.1.2) trains with 8 frames
  at 1 a second and evaluates with 30 at 3 a second.

  Attributes:
    fps: frames a second of lists and filmstrips, which do not say it themselves.
    rule: where a clip of a longer video begins: at `random`, or so that it is the `middle`.
  """

  count: int = 8
  rate: float | None = None
  fps: float | None = None
  rule: Literal["random", "middle"] = "random"
  field: str = "image"
  to: str = "video"

  @property
  def random(self) -> bool:
    return self.rule == "random" and self.rate is not None

  def __post_init__(self):
    if self.count < 1:
      raise ValueError(f"count = {self.count}; legal: 1 or more frames")
    for name in ("rate", "fps"):
      value = getattr(self, name)
      if value is not None and not value > 0:
        raise ValueError(f"{name} = {value}; legal: more than 0 frames a second")

  def __call__(self, example, rng):
    frames, starts = read(value_of(example, self.field), self.fps)
    if self.rate is None:
      chosen = evenly(len(frames), self.count)
    elif starts is None:
      raise ValueError(f"rate = {self.rate}, but a list or filmstrip does not say its own rate; give it as fps=")
    else:
      chosen = at_rate(starts, self.count, self.rate, rng if self.random else None)
    return example | {self.to: [frames[i] for i in chosen]}


def read(video: decode.Picture | list, fps: float | None = None) -> tuple[list[Image.Image], list[float] | None]:
  """The frames of a video, and when each begins, in seconds, with the end of the last; None if nothing says it.

  Raises:
    ValueError: a picture that is neither animated nor as wide as several squares of its height, or a damaged one.
  """
  frames = pictures.frames_of(video)
  if len(frames) == 1 and not isinstance(video, list | tuple):
    image = decode.open_any(frames[0])
    if is_animated(image):
      return _animation(image)
    frames = strip(decode.load(decode.open_rgb(image)))
  opened = [decode.open_rgb(frame) for frame in frames]
  return opened, None if fps is None else [i / fps for i in range(len(opened) + 1)]


def animation(picture: decode.Picture) -> list[Image.Image] | None:
  """The frames of an animated picture; None of any other.

  Raises:
    ValueError: it is no picture, or a damaged one.
  """
  image = decode.open_any(picture)
  return _animation(image)[0] if is_animated(image) else None


def is_animated(image: Image.Image) -> bool:
  """Whether a picture has several frames."""
  return getattr(image, "n_frames", 1) > 1


def strip(picture: Image.Image) -> list[Image.Image]:
  """The frames of a filmstrip, squares side by side.

  Raises:
    ValueError: it is not as wide as some number of squares.
  """
  side = picture.height
  if picture.width % side:
    raise ValueError(f"a filmstrip of {picture.width} x {side} pixels; legal: as wide as a number of squares")
  return [picture.crop((left, 0, left + side, side)) for left in range(0, picture.width, side)]


def evenly(frames: int, count: int) -> list[int]:
  """Numbers of `count` frames at even distances, each from the middle of its part; of few frames some come twice."""
  return [int((i + 0.5) * frames / count) for i in range(count)]


def at_rate(starts: list[float], count: int, rate: float, rng: np.random.Generator | None = None) -> list[int]:
  """Numbers of the frames that are shown at `count` moments 1 / rate seconds apart.

  Args:
    starts: when each frame begins, and the end of the last, in seconds.
    rng: draws where the clip begins; without it the clip is the middle of the video.
  """
  spare = max(0.0, starts[-1] - starts[0] - (count - 1) / rate)
  first = starts[0] + (rng.uniform(0, spare) if rng is not None else spare / 2)
  last = len(starts) - 2
  return [min(last, bisect.bisect_right(starts, first + i / rate + 1e-9) - 1) for i in range(count)]


def _animation(image: Any) -> tuple[list[Image.Image], list[float]]:
  frames, starts = [], [0.0]
  try:
    for number in range(image.n_frames):
      image.seek(number)
      frames.append(decode.to_rgb(decode.load(image)))
      starts.append(starts[-1] + (image.info.get("duration", 0) / 1000 or TICK))
  except (EOFError, OSError, SyntaxError) as error:
    raise ValueError(f"frame {len(frames)} of an animation cannot be read: {error}") from error
  return frames, starts
