"""Raw examples as features of a tf.train.Example and back, by a type for each field."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from vljax.data.sources import example

IMAGE, MEDIA, TEXT, TEXTS, INT, JSON = "image", "media", "text", "texts", "int", "json"
"""Types of fields. JSON holds what fits none of the others, also fields that some examples lack."""


def type_of(value: Any) -> str:
  """The narrowest type that holds a value."""
  if isinstance(value, str):
    return TEXT
  if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
    return INT
  if isinstance(value, list) and all(isinstance(item, str) for item in value):
    return TEXTS
  return JSON


def types_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
  """Field to type over all rows; a field that is absent somewhere or of several types is JSON."""
  types: dict[str, str] = {}
  counts: dict[str, int] = {}
  total = 0
  for row in rows:
    total += 1
    for name, value in row.items():
      counts[name] = counts.get(name, 0) + 1
      found = type_of(value)
      types[name] = found if types.get(name, found) == found else JSON
  return {name: kind if counts[name] == total else JSON for name, kind in types.items()}


def encode(row: Mapping[str, Any], types: Mapping[str, str]) -> bytes:
  """One raw example, pictures already encoded, as a serialized tf.train.Example."""
  features: dict[str, Any] = {}
  for name, kind in types.items():
    value: Any = row.get(name)
    if kind == IMAGE:
      features[name] = [value]
    elif kind == MEDIA:
      features[name] = list(value)
    elif kind == TEXT:
      features[name] = [value.encode()]
    elif kind == TEXTS:
      features[name] = [text.encode() for text in value]
    elif kind == INT:
      features[name] = [int(value)]
    else:
      features[name] = [json.dumps(value, ensure_ascii=False).encode() if name in row else b""]
  return example.encode(features)


def decode(data: bytes, types: Mapping[str, str] | None) -> dict[str, Any]:
  """The raw example of a serialized tf.train.Example; without types they are guessed from the values.

  Raises:
    ValueError: the bytes are no Example.
  """
  row: dict[str, Any] = {}
  for name, values in example.decode(data).items():
    kind = (types or {}).get(name) or guess(name, values)
    if kind == IMAGE:
      row[name] = values[0]
    elif kind == MEDIA:
      row[name] = values
    elif kind == TEXT:
      row[name] = values[0].decode()
    elif kind == TEXTS:
      row[name] = [value.decode() for value in values]
    elif kind == INT:
      row[name] = values[0]
    elif types is None:
      row[name] = values
    elif values[0]:
      row[name] = json.loads(values[0])
  return row


def guess(name: str, values: list[Any]) -> str:
  """The type of a field for which none is recorded."""
  if name == "image" and len(values) == 1 and isinstance(values[0], bytes):
    return IMAGE
  if len(values) == 1 and isinstance(values[0], int):
    return INT
  if values and all(isinstance(value, bytes) for value in values):
    try:
      [value.decode() for value in values]
    except UnicodeDecodeError:
      return JSON
    return TEXTS if len(values) > 1 or name == "captions" else TEXT
  return JSON
