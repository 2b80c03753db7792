"""What is done to an example on the host, named by tuples in a config.

  [("decode",), ("random_resized_crop", 64, (0.5, 1.0)), ("flip_lr",), ("choose_caption", "random"), ("tokenize",),
   ("keep", "image", "tokens")]

A tuple is a name of `TRANSFORMS`, then its positional arguments; a mapping at the end gives arguments by name.
"""

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from vljax import config
from vljax.data import audio, captions, decode, images, interleave, one_channel, packing, pictures, video
from vljax.data.tokenizers import Tokenizer
from vljax.data.transform import (
  Color,
  Example,
  ImageTransform,
  Interpolation,
  ResizeMode,
  Transform,
  check_box,
  check_share,
  value_of,
)


@dataclasses.dataclass(frozen=True)
class Decode(Transform):
  """Encoded bytes to RGB; see `decode.decode` for `background` and `exif`."""

  background: Color | None = None
  exif: bool = False

  def __call__(self, example, rng):
    return example | {"image": decode.open_rgb(value_of(example, "image"), self.background, self.exif)}


@dataclasses.dataclass(frozen=True)
class Preprocess(Transform):
  """Everything that a published tower's evaluation does to a picture, bit-exactly; takes the place of decode."""

  size: int
  mode: ResizeMode = "shortest"
  interpolation: Interpolation = "bicubic"
  crop: float = 1.0

  def __call__(self, example, rng):
    image = images.preprocess(value_of(example, "image"), self.size, self.mode, self.interpolation, self.crop)
    return example | {"image": image}


@dataclasses.dataclass(frozen=True)
class Resize(ImageTransform):
  """The short side, the long side or both sides made `size`."""

  size: int
  mode: ResizeMode = "shortest"
  interpolation: Interpolation = "bicubic"

  def apply(self, image, rng):
    return images.resize(decode.load(image), self.size, self.mode, self.interpolation)


@dataclasses.dataclass(frozen=True)
class CenterCrop(ImageTransform):
  """The middle, padded with black where the image is smaller."""

  size: int

  def apply(self, image, rng):
    return images.center_crop(decode.load(image), self.size)


@dataclasses.dataclass(frozen=True)
class PadSquare(ImageTransform):
  """The whole image on a square of one color."""

  fill: Color = (0, 0, 0)

  def apply(self, image, rng):
    return images.pad_square(decode.load(image), self.fill)


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(ImageTransform):
  """A random box, resized to a square. `gap` trades exactness for speed: see `images.resized_crop`."""

  size: int
  scale: tuple[float, float] = (0.08, 1.0)
  ratio: tuple[float, float] = (3 / 4, 4 / 3)
  interpolation: Interpolation = "bicubic"
  gap: float | None = 2.0

  @property
  def random(self) -> bool:
    return True

  def __post_init__(self):
    super().__post_init__()
    check_box(self.scale, self.ratio)
    if self.gap is not None and self.gap < 1:
      raise ValueError(f"gap = {self.gap}; legal: at least 1, or None to decode the whole image")

  def apply(self, image, rng):
    box = images.random_box(*image.size, self.scale, self.ratio, rng)
    return images.resized_crop(image, box, self.size, self.interpolation, self.gap)


@dataclasses.dataclass(frozen=True)
class TwoCrops(RandomResizedCrop):
  """Two random boxes of one picture, each resized to a square, as the fields `image` and `image_other`.

  The recipe `simclr` makes its two views of them. The picture is decoded once, as a whole, so that `gap` makes the
  resizing faster and no more.
  """

  def __call__(self, example, rng):
    image = decode.load(decode.open_rgb(value_of(example, "image")))
    return example | {"image": self.apply(image, rng), "image_other": self.apply(image, rng)}


@dataclasses.dataclass(frozen=True)
class FlipLr(ImageTransform):
  """The mirror image with probability `p`."""

  p: float = 0.5

  @property
  def random(self) -> bool:
    return True

  def __post_init__(self):
    check_share("p", self.p)

  def apply(self, image, rng):
    return images.flip_lr(decode.load(image)) if rng.random() < self.p else image


@dataclasses.dataclass(frozen=True)
class ChooseCaption(Transform):
  """One of the captions, as the field `to`."""

  rule: Literal["first", "last", "random", "longest", "shortest", "join"] = "random"
  field: str = "captions"
  to: str = "caption"

  @property
  def random(self) -> bool:
    return self.rule == "random"

  def __call__(self, example, rng):
    return example | {self.to: captions.choose(value_of(example, self.field), self.rule, rng)}


@dataclasses.dataclass(frozen=True)
class ChooseRow(Transform):
  """One row of an array, drawn at random, in its place: of features made before, those of one caption."""

  field: str

  @property
  def random(self) -> bool:
    return True

  def __call__(self, example, rng):
    rows = value_of(example, self.field)
    return example | {self.field: rows[rng.integers(len(rows))]}


@dataclasses.dataclass(frozen=True)
class Tokenize(Transform):
  """The ids of one text, int32 [t], or of a list of texts, [n t], as the field `to`."""

  field: str = "caption"
  to: str = "tokens"
  tokenizer: Tokenizer | None = None

  def __call__(self, example, rng):
    text = value_of(example, self.field)
    ids = self.tokenizer(text)
    return example | {self.to: ids[0] if isinstance(text, str) else ids}


@dataclasses.dataclass(frozen=True)
class Sound(Transform):
  """A WAV file's bytes to a waveform, float32 [t], at `rate` samples a second."""

  rate: int = 16_000
  field: str = "audio"

  def __call__(self, example, rng):
    x, rate = audio.read_wav(value_of(example, self.field))
    return example | {self.field: audio.resample(x, rate, self.rate)}


@dataclasses.dataclass(frozen=True)
class Fbank(Transform):
  """A waveform's log-mel spectrogram [bins frames 1]; see `audio.fbank`.

  What is longer than `frames` is cut at the end, what is shorter filled up with the least value there is.
  """

  bins: int = 128
  frames: int = 204
  rate: int = 16_000
  shift: float = 0.010
  field: str = "audio"

  def __call__(self, example, rng):
    waveform = np.asarray(value_of(example, self.field))
    clips = waveform if waveform.ndim == 2 else waveform[None]
    made = [audio.fbank(x, self.rate, self.bins, shift=self.shift) for x in clips]
    cut = [audio.cut(x, 0, self.frames, math.log(audio.EPSILON)).T[..., None] for x in made]
    return example | {self.field: np.stack(cut) if waveform.ndim == 2 else cut[0]}


@dataclasses.dataclass(frozen=True)
class Window(Transform):
  """`length` steps of a signal [t ...]: one window, or [count length ...] of several; zeros where it is shorter.

  Attributes:
    rule: windows at `random`, or at `even` distances from start to end.
  """

  field: str
  length: int
  count: int = 1
  rule: Literal["random", "even"] = "random"

  @property
  def random(self) -> bool:
    return self.rule == "random"

  def __post_init__(self):
    if self.length < 1 or self.count < 1:
      raise ValueError(f"length = {self.length}, count = {self.count}; legal: 1 or more")

  def __call__(self, example, rng):
    x = np.asarray(value_of(example, self.field))
    places = audio.starts(len(x), self.length, self.count, rng if self.random else None)
    cut = [audio.cut(x, start, self.length) for start in places]
    return example | {self.field: cut[0] if self.count == 1 else np.stack(cut)}


@dataclasses.dataclass(frozen=True)
class Frames(Transform):
  """Some frames of a filmstrip, a picture of frames side by side as wide as high: uint8 [count size size 3].

  Attributes:
    to: the field of the frames; a random one of them, resized, is the field `image`.
    rule: neighbours from a `random` place, or at `even` distances over the whole with the middle one as the image.
  """

  count: int
  size: int
  to: str = "video"
  rule: Literal["random", "even"] = "random"

  @property
  def random(self) -> bool:
    return self.rule == "random"

  def __call__(self, example, rng):
    strip = decode.load(decode.open_rgb(value_of(example, "image")))
    side, there = strip.height, strip.width // strip.height
    if self.count < 1 or there < self.count:
      raise ValueError(f"{self.count} frames of a strip of {there}; legal: 1 to {there}")
    if self.random:
      first = int(rng.integers(0, there - self.count + 1))
      chosen, still = range(first, first + self.count), first + int(rng.integers(0, self.count))
    else:
      chosen, still = audio.starts(there, 1, self.count), there // 2
    cut = lambda i: strip.crop((i * side, 0, (i + 1) * side, side)).resize(
      (self.size, self.size), Image.Resampling.BICUBIC
    )
    return example | {self.to: np.stack([np.asarray(cut(i)) for i in chosen]), "image": cut(still)}


@dataclasses.dataclass(frozen=True)
class Keep(Transform):
  """Only these fields."""

  fields: tuple[str, ...]

  def __call__(self, example, rng):
    return {name: value_of(example, name) for name in self.fields}


def keep(*fields: str) -> Keep:
  """Only the named fields."""
  wrong = [f for f in fields if not isinstance(f, str)]
  if wrong or not fields:
    raise ValueError(f"keep{fields}: legal: one or more names of fields")
  return Keep(fields)


TRANSFORMS = {
  "decode": Decode,
  "preprocess": Preprocess,
  "resize": Resize,
  "center_crop": CenterCrop,
  "pad_square": PadSquare,
  "random_resized_crop": RandomResizedCrop,
  "two_crops": TwoCrops,
  "flip_lr": FlipLr,
  "choose_caption": ChooseCaption,
  "choose_row": ChooseRow,
  "tokenize": Tokenize,
  "sound": Sound,
  "fbank": Fbank,
  "window": Window,
  "frames": Frames,
  "one_channel": one_channel.OneChannel,
  "aligned_crop": one_channel.AlignedCrop,
  "clip": video.Clip,
  "pair": interleave.Pair,
  "interleave": interleave.Interleave,
  "pictures": pictures.Pictures,
  "pack": packing.Pack,
  "keep": keep,
}


@dataclasses.dataclass(frozen=True)
class Pipeline:
  """Transforms in order; images come out as uint8 [h w 3]. Picklable; a pure function of (example, rng)."""

  steps: tuple[tuple[str, Transform], ...]

  @property
  def random(self) -> bool:
    """Whether any step draws from the generator."""
    return any(step.random for _, step in self.steps)

  def split(self) -> tuple["Pipeline", "Pipeline"]:
    """The longest part without random steps from the start, and the rest."""
    at = next((i for i, (_, step) in enumerate(self.steps) if step.random), len(self.steps))
    return Pipeline(self.steps[:at]), Pipeline(self.steps[at:])

  def __call__(self, example: Mapping[str, Any], rng: np.random.Generator | None = None) -> Example:
    """The example after all steps.

    Raises:
      ValueError: a step failed on this example; the message names the step, the reason follows.
    """
    if rng is None and self.random:
      raise ValueError(f"the transforms {[name for name, s in self.steps if s.random]} draw at random: pass rng")
    example = dict(example)
    for name, step in self.steps:
      example = _run(name, step, example, rng)
    pixels = {k: decode.to_array(v) for k, v in example.items() if isinstance(v, Image.Image)}
    return example | pixels


def build(steps: Sequence[Sequence[Any]], tokenizer: Tokenizer | None = None, where: str = "transforms") -> Pipeline:
  """The pipeline of a list of tuples.

  Raises:
    ValueError: an unknown name (with the nearest one), arguments that do not fit its signature (which is shown), a
      value of a wrong type or out of range, or a step that needs a tokenizer without one.
  """
  return Pipeline(tuple(_step(step, tokenizer, f"{where}[{i}]") for i, step in enumerate(steps)))


def _step(step: Sequence[Any], tokenizer: Tokenizer | None, where: str) -> tuple[str, Transform]:
  if isinstance(step, str) or not isinstance(step, Sequence) or not step or not isinstance(step[0], str):
    raise ValueError(f'{where} = {step!r}; legal: a tuple of a name and its arguments, such as ("resize", 224)')
  name, *args = step
  make = config.choose("transform", name, TRANSFORMS)
  signature = inspect.signature(make)
  named = dict(args.pop()) if args and isinstance(args[-1], Mapping) else {}
  injected = {"tokenizer": tokenizer} if "tokenizer" in signature.parameters else {}
  if injected:
    signature = signature.replace(parameters=[p for n, p in signature.parameters.items() if n != "tokenizer"])
    if tokenizer is None:
      raise ValueError(f"{where}: {name!r} needs a tokenizer, and none was given")
  shown = f"{name}{signature.replace(return_annotation=signature.empty)}"
  try:
    bound = signature.bind(*args, **named)
  except TypeError as error:
    raise ValueError(f"{where} = {tuple(step)!r}: {error}; its signature: {shown}") from error
  try:
    if make is keep:
      return name, keep(*bound.args)
    return name, config.parse(bound.arguments | injected, make, f"{where}.{name}")
  except ValueError as error:
    raise ValueError(f"{error}; its signature: {shown}") from error


def _run(name: str, step: Transform, example: Example, rng: np.random.Generator | None) -> Example:
  try:
    return step(example, rng)
  except (ValueError, OSError, KeyError) as error:
    raise ValueError(f"transform {name!r}: {error.args[0] if error.args else error}") from error
