"""The wire form of tf.train.Example, written and read without TensorFlow or protobuf.

An Example is Features (field 1), a map (field 1) from name to Feature; a Feature holds a list of bytes (1), of
float32 (2) or of int64 (3), each in field 1 of its list. See tensorflow/core/example/example.proto.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
BYTES, FLOATS, INTS = 1, 2, 3


def encode(features: Mapping[str, list[bytes] | list[int] | list[float]]) -> bytes:
  """The serialized Example; names in sorted order, so equal features give equal bytes.

  Raises:
    ValueError: a list of mixed or other types.
  """
  entries = []
  for name in sorted(features):
    entry = _field(1, name.encode()) + _field(2, _feature(name, features[name]))
    entries.append(_field(1, entry))
  return _field(1, b"".join(entries))


def decode(data: bytes) -> dict[str, list[Any]]:
  """Name to list of bytes, floats or ints.

  Raises:
    ValueError: the bytes are no Example.
  """
  try:
    features: dict[str, list[Any]] = {}
    for _, block in _fields(memoryview(data)):
      for _, entry in _fields(block):
        parts = dict(_fields(entry))
        features[bytes(parts[1]).decode()] = _values(parts[2]) if 2 in parts else []
    return features
  except (IndexError, KeyError, TypeError, struct.error, UnicodeDecodeError) as error:
    raise ValueError(f"{len(data)} bytes starting with {bytes(data[:16])!r} are no tf.train.Example") from error


def _feature(name: str, values: list[Any]) -> bytes:
  kinds = {type(value) for value in values}
  if kinds <= {bytes}:
    return _field(BYTES, b"".join(_field(1, value) for value in values))
  if kinds == {int}:
    return _field(INTS, _field(1, b"".join(_varint(value & (1 << 64) - 1) for value in values)))
  if kinds == {float}:
    return _field(FLOATS, _field(1, struct.pack(f"<{len(values)}f", *values)))
  raise ValueError(
    f"feature {name!r} holds {sorted(k.__name__ for k in kinds)}; legal: all bytes, all int or all float"
  )


def _values(feature: memoryview) -> list[Any]:
  values: list[Any] = []
  for kind, block in _fields(feature):
    for _, item in _fields(block):
      if kind == BYTES:
        values.append(bytes(item))
      elif kind == FLOATS:
        values += struct.unpack(f"<{len(item) // 4}f", item)
      elif kind == INTS:
        values += [item] if isinstance(item, int) else _varints(item)
  return [v - (1 << 64) if isinstance(v, int) and v >= 1 << 63 else v for v in values]


def _field(number: int, content: bytes) -> bytes:
  return _varint(number << 3 | LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
  out = bytearray()
  while value > 0x7F:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  out.append(value)
  return bytes(out)


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    byte = data[at]
    value |= (byte & 0x7F) << shift
    at, shift = at + 1, shift + 7
    if byte < 0x80:
      return value, at


def _varints(data: memoryview) -> list[int]:
  values, at = [], 0
  while at < len(data):
    value, at = _read_varint(data, at)
    values.append(value)
  return values


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
  at = 0
  while at < len(data):
    tag, at = _read_varint(data, at)
    number, wire = tag >> 3, tag & 7
    if wire == VARINT:
      value, at = _read_varint(data, at)
      yield number, value
      continue
    if wire == LENGTH:
      size, at = _read_varint(data, at)
    elif wire in (FIXED32, FIXED64):
      size = 4 if wire == FIXED32 else 8
    else:
      raise IndexError(f"wire type {wire}")
    if at + size > len(data):
      raise IndexError("cut off")
    yield number, data[at : at + size]
    at += size
