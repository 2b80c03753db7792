"""SentencePiece vocabularies (arXiv 1808.06226): published ones such as T5's, and training one on captions."""

import dataclasses
import functools
import io
import re
from collections.abc import Iterable
from typing import ClassVar, Self

import sentencepiece
from etils import epath

from vljax import config
from vljax.data.tokenizers import base, cleaning

FILE = "spm.model"
MODELS = ("unigram", "bpe")
LONGEST = 1 << 16
"""Training texts of more bytes than this would be skipped by the trainer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentencePiece(base.Tokenizer):
  """A SentencePiece model: the end-of-text id last, a begin id first if `bos`.

  Attributes:
    clean: what happens to a text first, a key of cleaning.RULES; None: nothing.
  """

  length: int = 64
  bos: bool = False
  clean: str | None = None

  kind: ClassVar[str] = "sentencepiece"
  file: ClassVar[str] = FILE
  younger: ClassVar[tuple[str, ...]] = (*base.Tokenizer.younger, "clean")

  @classmethod
  def make(
    cls,
    path: str,
    length: int = 64,
    bos: bool = False,
    pad_id: int = 0,
    clean: str | None = None,
    strict: bool = False,
    added: tuple[str, ...] = (),
  ) -> Self:
    """From a `.model` file, or a folder that holds spm.model, spiece.model, sentencepiece.model or tokenizer.model."""
    names = (FILE, "spiece.model", "sentencepiece.model", "tokenizer.model")
    data = base.find_file(path, names, cls.kind).read_bytes()
    return cls(vocabulary=data, length=length, bos=bos, pad_id=pad_id, clean=clean, strict=strict, added=added)

  def __post_init__(self):
    super().__post_init__()
    cleaning.check(self.clean)
    if self._model.eos_id() < 0:
      raise ValueError("this SentencePiece model has no end-of-text piece; train it with eos_id >= 0")
    if self.bos and self._model.bos_id() < 0:
      raise ValueError("bos = True, but this SentencePiece model has no begin-of-text piece; legal: bos = False")

  @property
  def pieces(self) -> int:
    return self._model.get_piece_size()

  @property
  def eos_id(self) -> int:
    return self._model.eos_id()

  @property
  def bos_id(self) -> int:
    own = self._model.bos_id()
    return self.eos_id if own < 0 else own

  def encode(self, text: str) -> list[int]:
    return self._model.encode(cleaning.clean(text, self.clean), add_bos=self.bos, add_eos=True)

  def plain(self, text: str) -> list[int]:
    return self._model.encode(cleaning.clean(text, self.clean))

  def piece(self, i: int) -> str:
    """The name of an id of the vocabulary."""
    return self._model.id_to_piece(i)

  def _find(self, name: str) -> int | None:
    found = self._model.piece_to_id(name)
    return None if found == self._model.unk_id() and name != self.piece(found) else found

  def _join(self, ids: list[int]) -> str:
    return self._model.decode([i for i in ids if not self._model.is_control(i)])

  @functools.cached_property
  def _model(self) -> sentencepiece.SentencePieceProcessor:
    try:
      return sentencepiece.SentencePieceProcessor(model_proto=self.vocabulary)
    except RuntimeError as error:
      raise ValueError(f"not a SentencePiece model ({len(self.vocabulary)} bytes): {error}") from error


class TooFewTexts(ValueError):
  """The texts cannot fill a vocabulary of the size that was asked for; `most` is what they can."""

  def __init__(self, message: str, most: int):
    super().__init__(message)
    self.most = most


def train_sentencepiece(
  texts: Iterable[str],
  vocab_size: int,
  directory: epath.PathLike | None = None,
  *,
  length: int = 64,
  lower: bool = True,
  model: str = "unigram",
  coverage: float = 1.0,
  bos: bool = False,
  byte_fallback: bool = True,
) -> SentencePiece:
  """A tokenizer whose vocabulary is learned from `texts`; the same texts in the same order give the same bytes.

  Ids: pad 0, end 1, unknown 2, begin 3, then, with `byte_fallback`, the 256 bytes that spell characters outside the
  vocabulary. With `lower` the case folding is part of the model. The tokenizer is also saved in `directory`, if given.

  Raises:
    ValueError: no text, an unknown `model`, or a `vocab_size` that cannot hold their characters (with the smallest).
    TooFewTexts: a `vocab_size` that the texts cannot fill (with the greatest legal one).
  """
  config.choose("SentencePiece model", model, dict.fromkeys(MODELS))
  lines = [line for text in texts if (line := " ".join(text.split()))]
  if not lines:
    raise ValueError("train_sentencepiece got no text that is not empty")
  made = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(lines),
      model_writer=made,
      vocab_size=vocab_size,
      model_type=model,
      character_coverage=coverage,
      normalization_rule_name="nmt_nfkc_cf" if lower else "nmt_nfkc",
      byte_fallback=byte_fallback,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=3,
      num_threads=1,
      input_sentence_size=0,
      shuffle_input_sentence=False,
      max_sentence_length=LONGEST,
      minloglevel=2,
    )
  except RuntimeError as error:
    raise _explain(str(error), vocab_size, len(lines)) from error
  tokenizer = SentencePiece(vocabulary=made.getvalue(), length=length, bos=bos)
  if directory is not None:
    tokenizer.save(directory)
  return tokenizer


def _explain(message: str, vocab_size: int, count: int) -> ValueError:
  start = f"vocab_size = {vocab_size} does not fit the {count} texts"
  if found := re.search(r"set it to a value <= (\d+)", message):
    return TooFewTexts(f"{start}; legal: at most {found[1]}", int(found[1]))
  if found := re.search(r"required_chars\D*\d+ vs (\d+)", message):
    return ValueError(f"{start}; legal: at least {found[1]}")
  return ValueError(f"{start}: {message}")
