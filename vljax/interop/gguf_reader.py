"""GGUF files, llama.cpp's: metadata and quantized tensors, read by memory map (version 2 and 3, ggml/docs/gguf.md)."""

import dataclasses
import math
import os
import struct
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from vljax.interop.gguf_types import KINDS, Kind

MAGIC = b"GGUF"
SUFFIX = ".gguf"
VERSIONS = (2, 3)
ALIGNMENT = 32
MOST_AXES = 4

SCALARS = {
  0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
"""Type of a value to numpy's name of it; 8 is a string and 9 an array."""

STRING, ARRAY = 8, 9


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor of a file, not yet decoded.

  Attributes:
    shape: the slowest axis first, as numpy has it.
    data: its bytes in the memory map.
  """

  shape: tuple[int, ...]
  kind: Kind
  data: np.ndarray

  def array(self) -> Float[np.ndarray, "..."]:
    """Its numbers in float32."""
    return self.kind.decode(self.data.reshape(-1, self.kind.size)).reshape(self.shape)


@dataclasses.dataclass(frozen=True)
class File:
  """What a file holds: `metadata` by key, arrays of numbers as numpy's, and `tensors` by name."""

  metadata: dict[str, Any]
  tensors: dict[str, Tensor]


def read(path: epath.PathLike) -> File:
  """Open a file; tensors are decoded when they are asked for.

  Raises:
    FileNotFoundError: it does not exist.
    ValueError: it is no GGUF file, is truncated, or says what cannot be; names the place.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist")
  if not path.stat().length:
    raise ValueError(f"{path}: no GGUF file (it is empty)")
  cursor = _Cursor(np.memmap(os.fspath(path), np.uint8, "r"), str(path))
  try:
    return _file(cursor)
  except (struct.error, UnicodeDecodeError, OverflowError) as error:
    raise cursor.broken(str(error)) from error


class _Cursor:
  """A place in the bytes of a file; nothing is read beyond their end."""

  def __init__(self, data: np.ndarray, where: str):
    self.data, self.where, self.at = data, where, 0

  def broken(self, reason: str) -> ValueError:
    return ValueError(f"{self.where}: truncated or broken GGUF file, at byte {self.at} of {len(self.data)}: {reason}")

  def take(self, count: int) -> np.ndarray:
    if count > len(self.data) - self.at:
      raise self.broken(f"{count} bytes should follow")
    self.at += count
    return self.data[self.at - count : self.at]

  def numbers(self, dtype: str, count: int) -> np.ndarray:
    return self.take(np.dtype(dtype).itemsize * count).view(dtype)

  def number(self, dtype: str) -> Any:
    return self.numbers(dtype, 1)[0].item()

  def string(self) -> str:
    return bytes(self.take(self.number("<u8"))).decode("utf-8")

  def value(self, kind: int, nested: bool = False) -> Any:
    if kind in SCALARS:
      return self.number(SCALARS[kind])
    if kind == STRING:
      return self.string()
    if kind != ARRAY or nested:
      raise self.broken(f"a value of type {kind}{' in an array' if nested else ''}")
    inner, count = self.number("<u4"), self.number("<u8")
    if inner in SCALARS:
      return self.numbers(SCALARS[inner], count).copy()
    return [self.value(inner, nested=True) for _ in range(count)]


def _file(cursor: _Cursor) -> File:
  if bytes(cursor.data[:4]) != MAGIC:
    raise ValueError(f"{cursor.where}: no GGUF file (it begins with {bytes(cursor.data[:4])!r})")
  cursor.take(4)
  version = cursor.number("<u4")
  if version not in VERSIONS:
    raise ValueError(f"{cursor.where}: GGUF of version {version}; legal: {', '.join(map(str, VERSIONS))}")
  tensors, keys = cursor.number("<u8"), cursor.number("<u8")
  metadata: dict[str, Any] = {}
  for _ in range(keys):
    key = cursor.string()
    if key in metadata:
      raise cursor.broken(f"the key {key!r} for the second time")
    metadata[key] = cursor.value(cursor.number("<u4"))
  infos = [_info(cursor) for _ in range(tensors)]
  alignment = metadata.get("general.alignment", ALIGNMENT)
  if not isinstance(alignment, int) or alignment < 1:
    raise cursor.broken(f"general.alignment = {alignment!r}")
  cursor.at = -(-cursor.at // alignment) * alignment
  start, found = cursor.at, {}
  for name, shape, kind, offset in infos:
    if name in found:
      raise cursor.broken(f"the tensor {name!r} for the second time")
    if shape[-1] % kind.count or offset % alignment:
      raise cursor.broken(f"the tensor {name!r} of type {kind.name} has shape {shape} and offset {offset}")
    cursor.at = start + offset
    found[name] = Tensor(shape, kind, cursor.take(math.prod(shape) // kind.count * kind.size))
  return File(metadata, found)


def _info(cursor: _Cursor) -> tuple[str, tuple[int, ...], Kind, int]:
  name, axes = cursor.string(), cursor.number("<u4")
  if not 1 <= axes <= MOST_AXES:
    raise cursor.broken(f"the tensor {name!r} of {axes} axes")
  shape = tuple(cursor.numbers("<u8", axes).tolist()[::-1])
  kind = cursor.number("<u4")
  if kind not in KINDS:
    legal = ", ".join(k.name for k in KINDS.values())
    raise ValueError(f"{cursor.where}: the tensor {name!r} is of type {kind}, which is none of {legal}")
  return name, shape, KINDS[kind], cursor.number("<u8")
