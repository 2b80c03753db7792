"""Tokenizers of the `tokenizers` package: BERT's WordPiece, and any `tokenizer.json`."""

import dataclasses
import functools
import itertools
import json
from typing import ClassVar, Self

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from vljax.data.tokenizers import base, cleaning

ENDS = ("<|endoftext|>", "</s>", "<eos>", "[SEP]", "<|eot_id|>", "<end_of_text>")
"""Tokens taken for the end of a text, first found first, where a `tokenizer.json` names none."""

BEGINS = ("<|begin_of_text|>", "<s>", "<bos>", "[CLS]", "<|startoftext|>")
"""The same for the begin; without any of them the end of a text begins the next one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordPiece(base.Tokenizer):
  """BERT's tokenizer (arXiv 1810.04805): [CLS] pieces [SEP], pad [PAD] = 0; a vocabulary is one piece a line."""

  length: int = 64
  lower: bool = True

  kind: ClassVar[str] = "wordpiece"
  file: ClassVar[str] = "vocab.txt"

  @classmethod
  def make(
    cls, path: str, length: int = 64, lower: bool = True, strict: bool = False, added: tuple[str, ...] = ()
  ) -> Self:
    """From a vocabulary file, or a folder that holds vocab.txt; `lower` also strips accents, as BERT uncased does."""
    data = base.find_file(path, (cls.file,), cls.kind).read_bytes()
    return cls(vocabulary=data, length=length, lower=lower, strict=strict, added=added)

  def __post_init__(self):
    super().__post_init__()
    missing = [t for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if self._core.token_to_id(t) is None]
    if missing:
      raise ValueError(f"the WordPiece vocabulary of {self.pieces} pieces lacks {', '.join(missing)}")
    if self._core.token_to_id("[PAD]") != self.pad_id:
      raise ValueError(f"[PAD] is piece {self._core.token_to_id('[PAD]')} of the vocabulary; legal: the first")

  @property
  def pieces(self) -> int:
    return self._core.get_vocab_size()

  @property
  def eos_id(self) -> int:
    return self._core.token_to_id("[SEP]")

  @property
  def bos_id(self) -> int:
    return self._core.token_to_id("[CLS]")

  def encode(self, text: str) -> list[int]:
    return [self.bos_id, *self.plain(text), self.eos_id]

  def plain(self, text: str) -> list[int]:
    return self._core.encode(text, add_special_tokens=False).ids

  def _find(self, name: str) -> int | None:
    return self._core.token_to_id(name)

  def _join(self, ids: list[int]) -> str:
    special = {self.pad_id, self.bos_id}
    return self._core.decode([i for i in ids if i not in special], skip_special_tokens=False)

  @functools.cached_property
  def _core(self) -> tokenizers.Tokenizer:
    pieces = self.vocabulary.decode("utf-8").splitlines()
    vocabulary = {piece.strip(): i for i, piece in enumerate(pieces)}
    core = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=self.lower)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    return core


@dataclasses.dataclass(frozen=True, kw_only=True)
class HfJson(base.Tokenizer):
  """Whatever a Hugging Face `tokenizer.json` says, cut and padded by our rules; ends with `eos`.

  Attributes:
    eos, bos: names of the tokens that end a text and begin a document; None: see ENDS and BEGINS.
    clean: what happens to a text before all that, a key of cleaning.RULES; None: nothing.
  """

  length: int = 64
  eos: str | None = None
  bos: str | None = None
  clean: str | None = None

  kind: ClassVar[str] = "hf_json"
  file: ClassVar[str] = "tokenizer.json"
  younger: ClassVar[tuple[str, ...]] = (*base.Tokenizer.younger, "bos", "clean")

  @classmethod
  def make(
    cls,
    path: str | None = None,
    length: int = 64,
    eos: str | None = None,
    bos: str | None = None,
    pad_id: int = 0,
    clean: str | None = None,
    strict: bool = False,
    added: tuple[str, ...] = (),
    content: bytes | None = None,
  ) -> Self:
    """From a file, a folder that holds tokenizer.json, or the file's content.

    Raises:
      ValueError: neither path nor content, or both; or no such file's content, or an option that does not fit it.
    """
    if (path is None) == (content is None):
      raise ValueError("tokenizer hf_json needs one of the options path and content")
    options = dict(length=length, eos=eos, bos=bos, pad_id=pad_id, clean=clean, strict=strict, added=added)
    if content is not None:
      return cls(vocabulary=content, **options)
    file = base.find_file(path, (cls.file,), cls.kind)
    try:
      return cls(vocabulary=file.read_bytes(), **options)
    except ValueError as error:
      raise ValueError(f"{file}: {error}") from error

  def __post_init__(self):
    super().__post_init__()
    cleaning.check(self.clean)
    _ = self.eos_id, self.bos_id

  @functools.cached_property
  def pieces(self) -> int:
    return max(self._core.get_vocab().values()) + 1

  @functools.cached_property
  def eos_id(self) -> int:
    names = (self.eos,) if self.eos else ENDS
    found = [i for name in names if (i := self._core.token_to_id(name)) is not None]
    if not found:
      raise ValueError(f"the tokenizer.json has no end-of-text token {' or '.join(names)}; name it with eos=")
    return found[0]

  @functools.cached_property
  def bos_id(self) -> int:
    names = (self.bos,) if self.bos else BEGINS
    found = [i for name in names if (i := self._core.token_to_id(name)) is not None]
    if self.bos and not found:
      raise ValueError(f"the tokenizer.json has no token {self.bos!r}, which bos= names")
    return found[0] if found else self.eos_id

  def encode(self, text: str) -> list[int]:
    ids = self._core.encode(cleaning.clean(text, self.clean)).ids
    return ids if ids and ids[-1] == self.eos_id else [*ids, self.eos_id]

  def plain(self, text: str) -> list[int]:
    return self._core.encode(cleaning.clean(text, self.clean), add_special_tokens=False).ids

  def piece(self, i: int) -> str:
    """The name of an id of the vocabulary."""
    return self._core.id_to_token(i)

  def standalone(self, *, ended: bool) -> bytes:
    """The content of a tokenizer.json that by itself cleans texts, as far as it can, and, if `ended`, ends them."""
    steps, around, end = cleaning.normalizers_of(self.clean), self._around(), self.piece(self.eos_id)
    add_end = ended and around[-1] != end
    if not steps and not add_end:
      return self.vocabulary
    core = tokenizers.Tokenizer.from_str(self._core.to_str())
    if steps:
      own = [] if core.normalizer is None else [core.normalizer]
      core.normalizer = normalizers.Sequence([*steps, *own])
    if add_end:
      special = [(name, core.token_to_id(name)) for name in {*around, end} - {"$A"}]
      core.post_processor = processors.TemplateProcessing(single=[*around, end], special_tokens=special)
    return core.to_str().encode()

  def _around(self) -> list[str]:
    """The special tokens that the file puts around a text, `$A`: such as [CLS] $A [SEP]."""
    found = next(e for e in map(self._core.encode, self._core.get_vocab()) if 0 in e.special_tokens_mask)
    names = [name if special else "$A" for name, special in zip(found.tokens, found.special_tokens_mask, strict=True)]
    return [name for name, _ in itertools.groupby(names)]

  def _find(self, name: str) -> int | None:
    return self._core.token_to_id(name)

  def _join(self, ids: list[int]) -> str:
    return self._core.decode(ids)

  @functools.cached_property
  def _core(self) -> tokenizers.Tokenizer:
    try:
      core = tokenizers.Tokenizer.from_str(json.dumps(json.loads(self.vocabulary)))
    except Exception as error:  # the package raises bare Exception
      raise ValueError(f"not a tokenizer.json ({len(self.vocabulary)} bytes): {error}") from error
    core.no_truncation()
    core.no_padding()
    return core
