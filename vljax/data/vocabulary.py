"""The tokenizer of a run: kept in its workdir, else built, else learned from the captions of a source."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from absl import logging
from etils import epath

from vljax.data import sources, tokenizers

FOLDER = "tokenizer"

OfModel = Callable[[str], Mapping[str, Any]]
"""The path of a published model -> the options of its tokenizer, as `tokenizers.build` takes them."""


def no_model(path: str) -> Mapping[str, Any]:
  raise ValueError(f"config.tokenizer.kind = 'model' (path {path!r}) is read where runs are made, not here")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
  """Which tokenizer a run uses.

  Attributes:
    kind: a tokenizer of vljax.data.tokenizers, or that of the published `model` at `path`.
    length: ids per text.
    path: the vocabulary's file or folder; None looks where the kind says.
    learn: a source whose captions a sentencepiece vocabulary is learned from.
    size: pieces of the learned vocabulary, or as many as its captions can fill.
    options: further ones of the kind, such as `eos`, or `added` for tokens that the vocabulary lacks.
  """

  kind: Literal["clip_bpe", "sentencepiece", "wordpiece", "hf_json", "model"] = "clip_bpe"
  length: int = 77
  path: str | None = None
  learn: str | None = None
  size: int = 4000
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in self.options.items()}
    object.__setattr__(self, "options", plain)


def prepare(vocabulary: Vocabulary, workdir: epath.PathLike, of_model: OfModel = no_model) -> tokenizers.Tokenizer:
  """The tokenizer in WORKDIR/tokenizer; where there is none, it is made and kept there.

  Of several processes one should do so before the others.

  Raises:
    ValueError: the kept one is of another kind or length than the config says, or `learn` goes with another kind.
  """
  folder = epath.Path(workdir) / FOLDER
  if (folder / tokenizers.SPEC).exists():
    tokenizer = tokenizers.load(folder)
    wanted = {} if vocabulary.kind == "model" else {"kind": vocabulary.kind}
    wanted |= {"length": vocabulary.length}
    wanted |= {f"options.{name}": value for name, value in vocabulary.options.items()}
    for name, value in wanted.items():
      kept = getattr(tokenizer, name.removeprefix("options."), None)
      if kept != value:
        raise ValueError(f"{folder} holds a tokenizer of {name} {kept!r}; config.tokenizer.{name} = {value!r}")
    return tokenizer
  tokenizer = make(vocabulary, of_model)
  tokenizer.save(folder)
  return tokenizer


def captions(source: sources.Source) -> list[str]:
  """All captions of a source, or the texts of its pages; no picture is opened, rows that lack one are passed over.

  Raises:
    ValueError: no row has one.
  """
  found = []
  for i in range(len(source)):
    try:
      row = source.row(i)
      found += row.get("captions", [item for item in row.get("items", ()) if isinstance(item, str)])
    except ValueError as error:
      logging.warning("no captions of row %d for the vocabulary: %s", i, error)
  if not found:
    raise ValueError(f"a vocabulary is learned from captions; {source.name} has none")
  return found


def make(vocabulary: Vocabulary, of_model: OfModel = no_model) -> tokenizers.Tokenizer:
  """The tokenizer, built or learned, kept nowhere.

  Args:
    of_model: reads that of a published model, which is known higher up only.

  Raises:
    ValueError: `learn` goes with another kind than sentencepiece, or a model has no path or brings no tokenizer.
  """
  if vocabulary.kind == "model":
    if vocabulary.path is None:
      raise ValueError("config.tokenizer.kind = 'model' needs config.tokenizer.path, the published model")
    found = dict(of_model(vocabulary.path))
    if not found:
      raise ValueError(f"config.tokenizer.path = {vocabulary.path!r} brings no tokenizer that vljax reads")
    return tokenizers.build(**found | {"length": vocabulary.length, **vocabulary.options})
  if vocabulary.learn is None:
    path = {"path": vocabulary.path} if vocabulary.path is not None else {}
    return tokenizers.build(vocabulary.kind, length=vocabulary.length, **path, **vocabulary.options)
  if vocabulary.kind != "sentencepiece":
    raise ValueError(f"config.tokenizer.learn needs kind = 'sentencepiece'; found {vocabulary.kind!r}")
  texts = captions(sources.open(vocabulary.learn))
  try:
    learned = tokenizers.train_sentencepiece(texts, vocabulary.size, length=vocabulary.length)
  except tokenizers.TooFewTexts as error:
    logging.warning("the captions fill a vocabulary of %d pieces, not of %d", error.most, vocabulary.size)
    learned = tokenizers.train_sentencepiece(texts, error.most, length=vocabulary.length)
  return dataclasses.replace(learned, **vocabulary.options)
