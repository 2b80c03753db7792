"""Tokenizers: CLIP's BPE, SentencePiece, WordPiece, and any Hugging Face `tokenizer.json`."""

import hashlib
import inspect
import json
from typing import Any

from etils import epath

from vljax import config
from vljax.data.tokenizers.base import SPEC, Tokenizer
from vljax.data.tokenizers.clip_bpe import ClipBpe
from vljax.data.tokenizers.hugging_face import HfJson, WordPiece
from vljax.data.tokenizers.sentence_piece import SentencePiece, TooFewTexts, train_sentencepiece

KINDS = {c.kind: c for c in (ClipBpe, SentencePiece, WordPiece, HfJson)}
NEEDED = ("kind", "sha256", "length", "vocab_size", "eos_id", "pool", "options")
"""What a saved spec must hold."""

__all__ = [
  "KINDS", "SPEC", "ClipBpe", "HfJson", "SentencePiece", "Tokenizer", "TooFewTexts", "WordPiece", "build", "load",
  "train_sentencepiece",
]  # fmt: skip


def build(kind: str, **options: Any) -> Tokenizer:
  """The tokenizer of a kind from its options: `path`, `length`, `strict`, and what its `make` names besides.

  Raises:
    ValueError: an unknown kind or option, or a file that is not such a vocabulary.
    FileNotFoundError: no vocabulary there.
  """
  make = config.choose("tokenizer", kind, KINDS).make
  legal = inspect.signature(make).parameters
  for name in options:
    if name not in legal:
      raise ValueError(config.unknown(f"option {name!r} of tokenizer {kind}", name, legal))
  missing = [n for n, p in legal.items() if p.default is p.empty and n not in options]
  if missing:
    raise ValueError(
      f"tokenizer {kind} needs the option {', '.join(missing)}; its signature: {kind}{inspect.signature(make)}"
    )
  return make(**options)


def load(directory: epath.PathLike) -> Tokenizer:
  """The tokenizer that `save` wrote into a folder.

  Raises:
    FileNotFoundError: the spec or the vocabulary is missing.
    ValueError: the spec is damaged; the vocabulary is not the one that was saved, or gives another size or
      end-of-text id.
  """
  directory = epath.Path(directory)
  if not (directory / SPEC).exists():
    raise FileNotFoundError(f"{directory} holds no tokenizer: there is no {SPEC} in it")
  spec = _read_spec(directory / SPEC)
  cls = config.choose(f"kind of tokenizer in {directory / SPEC}", spec["kind"], KINDS)
  file = directory / cls.file
  if not file.exists():
    raise FileNotFoundError(f"tokenizer {spec['kind']}: the vocabulary {file} is missing")
  data = file.read_bytes()
  found = hashlib.sha256(data).hexdigest()
  if found != spec["sha256"]:
    raise ValueError(f"the vocabulary {file} has sha256 {found}, but {SPEC} says {spec['sha256']}: it was changed")
  tokenizer = cls(vocabulary=data, length=spec["length"], **spec["options"])
  for name in ("vocab_size", "eos_id", "pool"):
    if getattr(tokenizer, name) != spec[name]:
      raise ValueError(
        f"{directory / SPEC}: {name} = {spec[name]}, but the vocabulary gives {getattr(tokenizer, name)}"
      )
  return tokenizer


def _read_spec(file: epath.Path) -> dict[str, Any]:
  try:
    spec = json.loads(file.read_text())
  except ValueError as error:
    raise ValueError(f"{file} is damaged: it is not JSON: {error}") from error
  missing = [name for name in NEEDED if not isinstance(spec, dict) or name not in spec]
  if missing:
    raise ValueError(f"{file} is damaged: it lacks {', '.join(missing)}")
  return spec
