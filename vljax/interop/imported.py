"""What every reader of published checkpoints returns, and every writer takes."""

import dataclasses
from typing import Any

import numpy as np
from etils import epath

from vljax.data.mean_std import MEAN_STD
from vljax.data.tokenizers import clip_bpe
from vljax.interop import hf_tokenizer
from vljax.models import dual_encoder, fitting

CLIP_VOCAB = 49_408
"""Ids of CLIP's byte-pair encoding; the largest ends a text."""


@dataclasses.dataclass
class Imported:
  """A dual encoder with all that its weights mean.

  Attributes:
    config: the keyword arguments of `models.dual_encoder.build_from`: image, text, dim.
    params: the nested, stacked tree of float32 numpy arrays.
    preprocess: size, mean, std, interpolation ("bicubic", ...), resize_mode ("shortest", "longest" or "squash").
    tokenizer: the keyword arguments of `data.tokenizers.build`; empty if the checkpoint tells none.
    notes: what was not in the checkpoint and was taken as usual instead, in sentences for the user.
  """

  config: dict[str, Any]
  params: Any
  preprocess: dict[str, Any]
  tokenizer: dict[str, Any]
  notes: list[str] = dataclasses.field(default_factory=list)

  def model(self) -> dual_encoder.DualEncoder:
    """The module that the parameters are of."""
    return dual_encoder.build_from(**self.config)

  def check(self, where: epath.PathLike) -> "Imported":
    """Itself, if every name and shape is the model's.

    Raises:
      ValueError: names what differs.
    """
    fitting.check(self.params, self.model(), str(where), statistics=True)
    return self


def clip_preprocess(size: int) -> dict[str, Any]:
  """OpenAI CLIP's preparation of images of a size: short side resized, centre cropped, its mean and deviation."""
  mean, std = MEAN_STD["clip"]
  return dict(size=size, mean=mean, std=std, interpolation="bicubic", resize_mode="shortest")


def clip_tokenizer(vocab: int, length: int, notes: list[str], where: epath.PathLike) -> dict[str, Any]:
  """CLIP's tokenizer where the vocabulary's size is CLIP's; otherwise none, with a note."""
  if vocab == CLIP_VOCAB:
    return dict(kind="clip_bpe", length=length)
  notes.append(f"{where} brings no tokenizer, and {vocab} ids are not CLIP's {CLIP_VOCAB}: texts must come as ids")
  return {}


def own_clip_tokenizer(folder: epath.Path, vocab: int, length: int, notes: list[str]) -> dict[str, Any]:
  """The tokenizer in a CLIP's folder: merges.txt, or tokenizer.json, as CLIP's where its ids are ordered so.

  A folder without both has the one of `clip_tokenizer`, with a note.

  Raises:
    ValueError: as `hf_tokenizer.pieces_json`.
  """
  merges, own = folder / "merges.txt", folder / clip_bpe.JSON
  if vocab == CLIP_VOCAB and merges.exists():
    return dict(kind="clip_bpe", path=str(merges), length=length)
  if own.exists():
    if vocab == CLIP_VOCAB and clip_bpe.merges_of(own.read_bytes()) is not None:
      return dict(kind="clip_bpe", path=str(own), length=length)
    return hf_tokenizer.pieces_json(folder, length, siglip=False)
  found = clip_tokenizer(vocab, length, notes, folder)
  if found:
    notes.append(f"{folder} has no tokenizer files: CLIP's tokenizer is used")
  return found


def rgb(values: Any, what: str) -> tuple[float, float, float]:
  """Three numbers of a config file.

  Raises:
    ValueError: they are not.
  """
  array = np.asarray(values if isinstance(values, list | tuple) else [], dtype=object)
  if array.shape != (3,) or not all(isinstance(v, int | float) for v in array):
    raise ValueError(f"{what} = {values!r}; legal: three numbers")
  return tuple(float(v) for v in array)
