"""Sources of examples, opened by a URI: `sources.open("pairs:DIR?table=captions.jsonl&split=train&holdout=500")`."""

from collections.abc import Callable
from typing import Any

from vljax import config
from vljax.data.sources import split as splits
from vljax.data.sources import uri as uris
from vljax.data.sources.array_record import ArrayRecord
from vljax.data.sources.easy_vqa import EasyVqa
from vljax.data.sources.espeak import Espeak
from vljax.data.sources.features import Features
from vljax.data.sources.folder import Folder
from vljax.data.sources.interleaved import Interleaved
from vljax.data.sources.json_lines import JsonLines
from vljax.data.sources.openmoji import OpenMoji
from vljax.data.sources.pairs import Pairs
from vljax.data.sources.parquet import Parquet
from vljax.data.sources.source import Part, Source
from vljax.data.sources.synthetic import Synthetic
from vljax.data.sources.tfds import Tfds
from vljax.data.sources.webdataset import WebDataset

KINDS: dict[str, Callable[..., Source]] = {
  "array_record": ArrayRecord,
  "easy_vqa": EasyVqa,
  "espeak": Espeak,
  "features": Features,
  "folder": Folder,
  "hf": Parquet,
  "interleaved": Interleaved,
  "jsonl": JsonLines,
  "openmoji": OpenMoji,
  "pairs": Pairs,
  "synthetic": Synthetic,
  "tfds": Tfds,
  "webdataset": WebDataset,
}

HOLDOUT = 0.1


def open(uri: str) -> Source:
  """The source that `kind:path?option=value&...` names; docs of each kind stand at its class.

  Every kind also takes split=train|val with holdout=NUMBER OF GROUPS or FRACTION (0.1 if not given), by=FIELD (whose
  values are the groups; the kind's own default, mostly the key) and seed=INT. An option of one kind is checked by
  the signature of its class.

  Raises:
    ValueError: an unknown kind or option (the nearest is named), a wrong value, or damaged data.
    FileNotFoundError: a file is missing.
    ImportError: an optional package is missing; the message names the command that brings it.
  """
  kind, path, options = uris.parse(uri)
  factory = config.choose("source kind", kind, KINDS)
  own, common = uris.option_names(factory), uris.option_names(part)
  for name in options:
    if name not in {*own, *common}:
      raise ValueError(config.unknown(f"option {name!r} of source kind {kind!r}", name, {*own, *common}))
  source = factory(path, **uris.arguments(factory, {k: v for k, v in options.items() if k in own}, uri))
  return part(source, **uris.arguments(part, {k: v for k, v in options.items() if k in common}, uri))


def part(
  source: Source,
  *,
  split: str | None = None,
  holdout: int | float | None = None,
  by: str | None = None,
  seed: int = 0,
) -> Source:
  """The training or validation side of a source, or the whole where no split is named.

  Raises:
    ValueError: holdout or by without a split, an unknown field, or a side without examples.
  """
  if split is None:
    if holdout is not None or by is not None:
      raise ValueError(f"{source.name}: holdout and by divide a source; say which side: split=train or split=val")
    return source
  groups: list[Any] = source.values(by or source.group_field)
  chosen = splits.indices(groups, split, HOLDOUT if holdout is None else holdout, seed)
  return Part(source, chosen, f"{source.name} ({split})")


__all__ = ["KINDS", "Part", "Source", "open", "part"]
