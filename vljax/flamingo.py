"""A Flamingo that is asked in words, pictures and clips."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from PIL import Image

from vljax import recipes
from vljax.data import images as geometry
from vljax.data import interleave, pictures
from vljax.evaluate import features
from vljax.generate import Inputs
from vljax.generate.writer import padded
from vljax.language import LanguageBundle
from vljax.layers.batch_norm import variables
from vljax.models import flamingo, nfnet
from vljax.recipes import clip
from vljax.types import Bool, Float, Int, Params, UInt8

Part = str | Image.Image | np.ndarray | bytes | epath.Path | Sequence[Any]
"""A text, a picture, or a clip: a list of pictures. Strings are texts, so a picture's path is an epath.Path."""


@dataclasses.dataclass(frozen=True)
class FlamingoSpeaker:
  """A Flamingo's functions for writing: it sees the media of a prompt once, and keeps looking at the last one."""

  model: flamingo.Flamingo
  preprocess: clip.Preprocess

  @property
  def length(self) -> int | None:
    return self.model.lm.positions_end

  def begin(self, params: Params, inputs: Inputs, room: int) -> tuple[Float[Any, "n t d"], flamingo.Memory]:
    visual = self.visual(params, inputs["images"], inputs["frames"]) if inputs["images"].shape[1] else None
    phi = None if visual is None else inputs["phi"]
    return self._apply(params, inputs["tokens"], visual, phi, room=room, key_padding=inputs["real"], method="begin")

  def go_on(
    self, params: Params, tokens: Int[Any, "n t"], real: Bool[Any, "n t"], state: flamingo.Memory
  ) -> tuple[Float[Any, "n t d"], flamingo.Memory]:
    return self._apply(params, tokens, state, key_padding=real, method="go_on")

  def head(self, params: Params, x: Float[Any, "*n d"]) -> Float[Any, "*n v"]:
    return self._apply(params, x, method="logits")

  def visual(
    self, params: Params, images: UInt8[Any, "b n f h w c"], frames: Bool[Any, "b n f"]
  ) -> Float[Any, "b n l d"]:
    """The visual tokens of raw media; a resampler without latents gives those of all frames."""
    real = frames if self.model.resampler.kind == "perceiver" else None
    return self._apply(params, self.preprocess.apply(images), real, method="encode_image")

  def features(self, params: Params, images: UInt8[Any, "n f h w c"], frames: Bool[Any, "n f"]) -> Float[Any, "n d"]:
    """The vision encoder's mean over positions and real frames of each raw medium, of length 1."""
    x = self._apply(params, self.preprocess.apply(images)[:, None], method="features")[:, 0].mean(2)
    total = jnp.where(frames[..., None], x, 0.0).astype(jnp.float32).sum(1)
    return total / jnp.linalg.norm(total, axis=-1, keepdims=True)

  def _apply(self, params: Params, *inputs: Any, **options: Any) -> Any:
    return self.model.apply(variables(params), *inputs, **options)


@dataclasses.dataclass(frozen=True)
class FlamingoBundle(LanguageBundle):
  """A Flamingo, its parameters and its tokenizer.

  A prompt is a text, or a list of texts, pictures and clips (see Part); "<EOC>", alone, ends the text before it, as
  between the examples of a few-shot prompt.

  Attributes:
    rules: how pictures are normalized and resized.
  """

  ends: ClassVar[tuple[str, ...]] = (*LanguageBundle.ends, interleave.CHUNK)

  rules: clip.Preprocess = clip.Preprocess(resize="longest")

  @functools.cached_property
  def speaker(self) -> FlamingoSpeaker:
    return FlamingoSpeaker(nfnet.viewed(self.model, "vision")[0], self.rules)

  @functools.cached_property
  def weights(self) -> Params:
    """The parameters, an NFNet's kernels standardized once and for all."""
    _, view = nfnet.viewed(self.model, "vision")
    return self.params if view is None else jax.jit(view)(self.params)

  @property
  def length(self) -> int:
    return self.model.lm.length

  @property
  def size(self) -> int:
    """Pixels per side of what the vision encoder sees."""
    return self.model.vision.image_size

  def preprocess(self, picture: Any) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as the vision encoder sees it, not yet normalized; margins of a square have the mean color.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or it is no picture.
    """
    if isinstance(picture, epath.Path) or hasattr(picture, "__fspath__"):
      path = epath.Path(picture)
      if not path.exists():
        raise FileNotFoundError(f"there is no picture {path}")
      picture = path.read_bytes()
    if self.rules.resize != "longest":
      return geometry.preprocess(picture, self.size, self.rules.resize, self.rules.interpolation)
    return pictures.square(picture, self.size, self.rules.mean_color, self.rules.interpolation)

  def read(self, prompts: Sequence[str | Sequence[Part]]) -> Inputs:
    """What the speaker begins with: `tokens`, `real`, `phi` [n t], and `images`, `frames` [n m f ...].

    Raises:
      ValueError: a prompt is neither a text nor a list, a clip without frames, or media of several lengths for a
        resampler without latents.
    """
    for prompt in prompts:
      if not isinstance(prompt, str | list | tuple):
        raise ValueError(
          f"a prompt is {prompt!r:.80} of type {type(prompt).__name__}; legal: str, a list of texts, pictures, clips"
        )
    made = [self.document([p] if isinstance(p, str) else p) for p in prompts]
    tokens, real = padded([document["tokens"] for document in made])
    phi, _ = padded([document["phi"] for document in made])
    images, frames = self._shown([document["media"] for document in made])
    return {"tokens": tokens, "real": real, "phi": phi, "images": images, "frames": frames}

  def document(self, parts: Sequence[Part]) -> dict[str, Any]:
    """A prompt's `tokens` and `phi` [t], and its `media`."""
    return interleave.prompt(parts, self.words)

  def inputs(self, rows: Sequence[Sequence[int]]) -> Inputs:
    """What the speaker begins with, of tokens without media: they pass through the gated blocks."""
    images, frames = self._media([[] for _ in rows])
    made = super().inputs(rows)
    return {**made, "phi": np.zeros_like(made["tokens"]), "images": images, "frames": frames}

  def evaluate(self) -> dict[str, float]:
    """What the evaluations of the run's own config report.

    Raises:
      ValueError: not a workdir of ours, or its config has no evaluations.
    """
    return recipes.evaluate(self.config, self.tokenizer, self.params)

  def encode_image(self, media: Any) -> Float[np.ndarray, "n l d"]:
    """The visual tokens of pictures and clips; one picture alone is a list of one, an array [f h w c] one clip.

    Raises:
      ValueError: no media, a clip without frames, or media of several lengths for a resampler without latents.
    """
    images, frames = self._shown([_listed(media)])
    return np.asarray(self._encode(self.weights, images, frames))[0]

  def image_features(self, media: Any, batch: int = 32) -> Float[np.ndarray, "n d"]:
    """What the vision encoder gives of media as of `encode_image`, the mean over positions and frames, of length 1.

    Raises:
      ValueError: no media, or a clip without frames.
    """

    def call(part: list[Any]) -> Any:
      images, frames = self._media([[medium] for medium in part])
      return self._features(self.weights, images[:, 0], frames[:, 0])

    media = _listed(media)
    return features.encode(call, media, min(batch, len(media)))

  def attention_map(self, prompt: Sequence[Part], layer: int) -> tuple[list[str], Float[np.ndarray, "t f i j"]]:
    """(the pieces of a prompt, where in its picture each looks in a gated block): see `Flamingo.attention_map`."""
    inputs = self.read([prompt])
    real = np.asarray(inputs["real"])[0]
    maps = self._look(self.weights, {**inputs, "layer": layer})
    return [self.words.decode([int(i)]) for i in inputs["tokens"][0][real]], np.asarray(maps)[0][real]

  def _shown(
    self, rows: Sequence[Sequence[Any]]
  ) -> tuple[UInt8[np.ndarray, "n m f h w 3"], Bool[np.ndarray, "n m f"]]:
    """Media as the resampler takes them."""
    kind = self.model.resampler.kind
    lengths = sorted({len(pictures.frames_of(medium)) for row in rows for medium in row})
    if kind != "perceiver" and len(lengths) > 1:
      raise ValueError(
        f"media of {', '.join(map(str, lengths))} frames; a resampler of kind {kind!r} gives tokens of all frames; "
        "legal: media of one length"
      )
    return self._media(rows)

  def _media(
    self, rows: Sequence[Sequence[Any]]
  ) -> tuple[UInt8[np.ndarray, "n m f h w 3"], Bool[np.ndarray, "n m f"]]:
    clips = [[[self.preprocess(p) for p in pictures.frames_of(medium)] for medium in row] for row in rows]
    most = max(map(len, clips), default=0)
    longest = max((len(clip) for row in clips for clip in row), default=1)
    images = np.zeros((len(rows), most, longest, self.size, self.size, 3), np.uint8)
    frames = np.zeros((len(rows), most, longest), bool)
    frames[..., 0] = True  # of what is no medium as well: nobody looks there, but a mean of nothing is no number
    for i, row in enumerate(clips):
      for j, clip_ in enumerate(row):
        images[i, j, : len(clip_)], frames[i, j, : len(clip_)] = np.stack(clip_), True
    return images, frames

  @functools.cached_property
  def _encode(self) -> Any:
    return jax.jit(self.speaker.visual)

  @functools.cached_property
  def _features(self) -> Any:
    return jax.jit(self.speaker.features)

  def _look(self, params: Params, inputs: Inputs) -> Any:
    images = self.rules.apply(jnp.asarray(inputs["images"]))
    return self.speaker.model.apply(
      variables(params), inputs["tokens"], images, inputs["phi"], inputs["layer"], frames=inputs["frames"],
      key_padding=inputs["real"], method="attention_map",
    )  # fmt: skip


def _listed(media: Any) -> list[Any]:
  media = list(media) if isinstance(media, list | tuple) else [media]
  if not media:
    raise ValueError("an empty list of media; legal: a picture, a clip, or a list of one or more")
  return media
