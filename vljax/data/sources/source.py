"""What every source is: random access to raw examples, cheap rows without pictures, groups to split by."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vljax import config

CAPTION_FIELDS = ("captions", "caption", "text")


class Source:
  """Raw examples by number. A kind of source implements `__len__`, `fields` and `image`; all must be picklable.

  An example is a dict with "key" (str), "image" (encoded bytes, or uint8 [h w c]), and where the data have them
  "captions" (list of str), "class" (str), "label" (int, its index in `classes`) and the table's own fields.
  """

  name: str = ""
  credit: str | None = None
  notes: str | None = None
  """What the source holds and what was left out, for the first lines of a run."""
  classes: tuple[str, ...] | None = None
  class_field: str | None = None
  group_field: str = "key"
  caption_fields: tuple[str, ...] = ()

  def __len__(self) -> int:
    raise TypeError(f"{type(self).__name__} has no length")

  def fields(self, index: int) -> dict[str, Any]:
    """Key and fields of one example as they were stored, neither the picture nor a check of the captions."""
    raise TypeError(f"{type(self).__name__} has no fields")

  def image(self, index: int) -> bytes | np.ndarray | None:
    """The picture of one example; None where the source holds none."""
    raise TypeError(f"{type(self).__name__} has no images")

  def captions(self, index: int, fields: Mapping[str, Any]) -> list[str] | None:
    """The captions of one example, never empty; None where the source has none.

    Raises:
      ValueError: the example has no caption though its source holds captions.
    """
    if not self.caption_fields:
      return None
    return texts_of(fields, self.caption_fields, f"{self.name}: {fields['key']!r}")

  def row(self, index: int) -> dict[str, Any]:
    """One example without its picture, at the cost of a table row.

    Raises:
      ValueError: the example has no caption though its source holds captions.
    """
    return self._complete(index, self.fields(index))

  def record(self, index: int) -> tuple[dict[str, Any], bytes | np.ndarray | None]:
    """`fields` and `image` at once, for kinds that read both from one place."""
    return self.fields(index), self.image(index)

  def _complete(self, index: int, fields: dict[str, Any]) -> dict[str, Any]:
    texts = self.captions(index, fields)
    if texts is not None:
      fields["captions"] = texts
    if self.class_field and self.classes:
      fields["class"] = str(lookup(fields, self.class_field, self.name))
      fields["label"] = self.classes.index(fields["class"])
    return fields

  def __getitem__(self, index: int) -> dict[str, Any]:
    if not 0 <= index < len(self):
      raise IndexError(f"{self.name} has {len(self)} examples; there is no number {index}")
    fields, image = self.record(index)
    row = self._complete(index, fields)
    return row if image is None else row | {"image": image}

  def classes_of(self, field: str) -> tuple[str, ...]:
    """The different values of a field as texts, in order: the names of the classes.

    Raises:
      ValueError: an example has no such field, or null in it.
    """
    values = self.values(field)
    if None in values:
      row = values.index(None)
      raise ValueError(f"{self.name}: row {row}: class field {field!r} holds None; legal: a text or a number")
    return class_order(map(str, values))

  def values(self, field: str) -> list[Any]:
    """The field (dotted for nested ones) of every example.

    Raises:
      ValueError: an example has no such field.
    """
    return [lookup(row, field, self.name) for row in map(self.fields, range(len(self)))]


class Part(Source):
  """Some examples of a source."""

  def __init__(self, source: Source, indices: np.ndarray, name: str):
    self.source, self.indices, self.name = source, indices, name
    self.credit, self.notes = source.credit, source.notes
    self.classes, self.group_field = source.classes, source.group_field

  def __len__(self) -> int:
    return len(self.indices)

  def fields(self, index: int) -> dict[str, Any]:
    return self.source.fields(int(self.indices[index]))

  def row(self, index: int) -> dict[str, Any]:
    return self.source.row(int(self.indices[index]))

  def __getitem__(self, index: int) -> dict[str, Any]:
    if not 0 <= index < len(self):
      raise IndexError(f"{self.name} has {len(self)} examples; there is no number {index}")
    return self.source[int(self.indices[index])]

  def image(self, index: int) -> bytes | np.ndarray | None:
    return self.source.image(int(self.indices[index]))


def class_order(classes: Iterable[str]) -> tuple[str, ...]:
  """The different classes, sorted; by value where all are numbers, so that 10 is behind 9 as in a list of labels."""
  different = set(classes)
  if all(name.isdecimal() for name in different):
    return tuple(sorted(different, key=lambda name: (int(name), name)))
  return tuple(sorted(different))


def in_words(name: str) -> str:
  """A name of a class or a file as people write it: `golden_retriever` becomes "golden retriever"."""
  return re.sub(r"[_\-\s]+", " ", name).strip()


def lookup(row: Mapping[str, Any], field: str, where: str) -> Any:
  """`row["a"]["b"]` for the field `a.b`.

  Raises:
    ValueError: there is no such field; the nearest name is given.
  """
  value = row
  for part in field.split("."):
    if not isinstance(value, Mapping) or part not in value:
      legal = list(value) if isinstance(value, Mapping) else []
      raise ValueError(f"{where}: " + config.unknown(f"field {field!r}", part, legal))
    value = value[part]
  return value


def texts_of(row: Mapping[str, Any], fields: Sequence[str], where: str) -> list[str]:
  """The texts of the named fields (each a str or a list of str), stripped, without the empty ones.

  Raises:
    ValueError: nothing is left, or a field holds something else than text.
  """
  texts: list[str] = []
  for field in fields:
    value: Any = row
    for part in field.split("."):
      value = value.get(part) if isinstance(value, Mapping) else None
    found = [value] if isinstance(value, str) else value or []
    if isinstance(found, Mapping):
      raise ValueError(f"{where}: caption field {field!r} holds {sorted(found)}; name one, as {field}.{min(found)}")
    if not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found):
      raise ValueError(f"{where}: caption field {field!r} holds {value!r}; legal: a text or a list of texts")
    texts += found
  return filled(texts, f"{where} has no caption: field {', '.join(map(repr, fields))} is absent or empty")


def filled(texts: Sequence[str], message: str) -> list[str]:
  """The texts stripped, without the empty ones.

  Raises:
    ValueError: with the message, if nothing is left.
  """
  kept = [text.strip() for text in texts if text.strip()]
  if not kept:
    raise ValueError(message)
  return kept


def find_caption_fields(row: Mapping[str, Any], chosen: Sequence[str]) -> tuple[str, ...]:
  """The chosen fields, else the first usual one that the row has, else none (a source without captions)."""
  return tuple(chosen) or next(((field,) for field in CAPTION_FIELDS if field in row), ())
