"""What every tokenizer does: texts to padded ids and back, and files that a checkpoint can keep."""

import abc
import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from etils import epath
from jaxtyping import Int

from vljax.data import packages

SPEC = "vljax_tokenizer.json"
"""The file that `save` writes beside the vocabulary: kind, hash, length, options."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenizer(abc.ABC):
  """Texts to rows of ids: at most `length`, the end-of-text id last, padded with `pad_id`.

  A text that is too long loses its tail and keeps the end-of-text id; with `strict` it raises. Instances are
  immutable, compare by value, and pickle as their vocabulary's bytes, so that they travel to worker processes and
  survive a fork: no thread pool is ever started.

  Attributes:
    pad_id: what stands after the end of a text.
    added: names of tokens that the vocabulary lacks, such as `<image>`; they get the ids after its last. No text
      spells them: they are put between texts by id.
  """

  vocabulary: bytes = dataclasses.field(repr=False)
  length: int
  pad_id: int = 0
  strict: bool = False
  added: tuple[str, ...] = ()

  kind: ClassVar[str]
  file: ClassVar[str]
  younger: ClassVar[tuple[str, ...]] = ("added", "pad_id")
  pool: ClassVar[str] = "eos"
  """How a tower must pool: "argmax" (the position of the largest id), "eos" (of the first `eos_id`), "last"."""

  def __post_init__(self):
    if self.length < 2:
      raise ValueError(f"tokenizer {self.kind}: length = {self.length}; legal: 2 or more (a token and the end)")
    object.__setattr__(self, "added", tuple(self.added))  # JSON made a list of it
    there = [name for i, name in enumerate(self.added) if name in self.added[:i] or self._find(name) is not None]
    if there:
      raise ValueError(f"tokenizer {self.kind}: added = {self.added}, but {there[0]!r} is there already")
    if not 0 <= self.pad_id < self.vocab_size:
      raise ValueError(f"tokenizer {self.kind}: pad_id = {self.pad_id}; legal: 0 to {self.vocab_size - 1}")

  @property
  def vocab_size(self) -> int:
    """The number of rows that an embedding table needs."""
    return self.pieces + len(self.added)

  @property
  @abc.abstractmethod
  def pieces(self) -> int:
    """The number of ids of the vocabulary itself."""

  @property
  @abc.abstractmethod
  def eos_id(self) -> int:
    """The id that ends every text."""

  @property
  @abc.abstractmethod
  def bos_id(self) -> int:
    """The id that begins a document: the vocabulary's own, else the one that ends it, as GPT-2 has it."""

  @abc.abstractmethod
  def encode(self, text: str) -> list[int]:
    """The ids of one text with its special ids, neither cut nor padded; the last one is `eos_id`."""

  @abc.abstractmethod
  def plain(self, text: str) -> list[int]:
    """The ids of one text alone, without special ids before or after it."""

  @abc.abstractmethod
  def _find(self, name: str) -> int | None:
    """The id of a piece of the vocabulary, None if it has no such piece."""

  @abc.abstractmethod
  def _join(self, ids: list[int]) -> str:
    """The text of ids of the vocabulary that hold no end-of-text id."""

  def token_id(self, name: str) -> int:
    """The id of a token by its name: an added one, or a piece of the vocabulary.

    Raises:
      ValueError: it is neither.
    """
    found = self.pieces + self.added.index(name) if name in self.added else self._find(name)
    if found is None:
      raise ValueError(f"tokenizer {self.kind} has no token {name!r}; added to its vocabulary: {self.added}")
    return found

  def __call__(self, texts: str | Iterable[str]) -> Int[np.ndarray, "n t"]:
    """Ids of each text, int32 [n length]; a single string is a list of one.

    Raises:
      ValueError: an item is not a string, or, if `strict`, a text has more than `length` ids.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    rows = np.full((len(texts), self.length), self.pad_id, np.int32)
    for row, text in zip(rows, texts, strict=True):
      ids = self._fit(text)
      row[: len(ids)] = ids
    return rows

  def decode(self, ids: Sequence[int] | Int[np.ndarray, "..."]) -> str | list[str]:
    """The text of ids [t], or the texts of ids [n t]; each is read up to its end-of-text id, added ids by name."""
    array = np.asarray(ids, dtype=np.int64)
    if array.ndim > 1:
      return [self.decode(row) for row in array]
    bad = array[(array < 0) | (array >= self.vocab_size)]
    if bad.size:
      raise ValueError(
        f"id {bad[0]} is not in the vocabulary of tokenizer {self.kind}; legal: 0 to {self.vocab_size - 1}"
      )
    row = array.tolist()
    row = row[: row.index(self.eos_id)] if self.eos_id in row else row
    runs = itertools.groupby(row, lambda i: max(-1, i - self.pieces))
    return "".join(self._join(list(ids)) if which < 0 else self.added[which] * len(list(ids)) for which, ids in runs)

  @functools.cached_property
  def sha256(self) -> str:
    """The hash of the vocabulary file."""
    return hashlib.sha256(self.vocabulary).hexdigest()

  @property
  def options(self) -> dict[str, Any]:
    """Every field but the vocabulary and the length: with `sha256` and `length`, all that decides the ids.

    What is younger than the first checkpoints is left out where it is empty, so that these stay equal.
    """
    names = [f.name for f in dataclasses.fields(self) if f.init and f.name not in ("vocabulary", "length")]
    return {name: getattr(self, name) for name in names if name not in self.younger or getattr(self, name)}

  def spec(self) -> dict[str, Any]:
    """What a checkpoint remembers of this tokenizer, fit for JSON."""
    return {
      "kind": self.kind,
      "sha256": self.sha256,
      "length": self.length,
      "vocab_size": self.vocab_size,
      "eos_id": self.eos_id,
      "pool": self.pool,
      "options": self.options,
      "files": [self.file],
    }

  def save(self, directory: epath.PathLike) -> None:
    """Writes the vocabulary file and the spec into a folder, from which `tokenizers.load` makes an equal tokenizer."""
    directory = epath.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / self.file).write_bytes(self.vocabulary)
    (directory / SPEC).write_text(json.dumps(self.spec(), indent=2) + "\n")

  def __getstate__(self) -> dict[str, Any]:
    return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

  def __setstate__(self, state: dict[str, Any]) -> None:
    for name, value in state.items():
      object.__setattr__(self, name, value)

  def _fit(self, text: str) -> list[int]:
    if not isinstance(text, str):
      raise ValueError(f"a text to tokenize is {text!r} of type {type(text).__name__}; legal: str")
    ids = self.encode(text)
    if len(ids) <= self.length:
      return ids
    if self.strict:
      raise ValueError(
        f"the text {text!r} has {len(ids)} ids with its special ones; length = {self.length} holds fewer"
      )
    return [*ids[: self.length - 1], self.eos_id]


def find_file(path: epath.PathLike, names: Sequence[str], kind: str) -> epath.Path:
  """The vocabulary file that `path` is, or that lies in the folder `path` under one of `names`.

  Raises:
    FileNotFoundError: neither, or `path` is a `package:NAME` that is not installed.
  """
  path = packages.resolve(path)
  if path.is_dir():
    for name in names:
      if (path / name).exists():
        return path / name
    raise FileNotFoundError(
      f"the folder {path} holds no vocabulary for tokenizer {kind}; looked for: {', '.join(names)}"
    )
  if not path.exists():
    raise FileNotFoundError(f"tokenizer {kind}: there is no vocabulary file {path}")
  return path
