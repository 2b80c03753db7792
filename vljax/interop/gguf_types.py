"""How GGUF files store numbers: plain floats, and llama.cpp's blocks of small integers with scales (ggml-quants.c).

Each decoder takes blocks [n bytes] of uint8 and gives their float32 numbers [n count], in the operations and their
order that llama.cpp has, so that results are equal to the last bit.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

Blocks = UInt8[np.ndarray, "n bytes"]
Numbers = Float[np.ndarray, "n count"]


@dataclasses.dataclass(frozen=True)
class Kind:
  """A type of tensors.

  Attributes:
    name: as llama.cpp calls it.
    count, size: numbers of a block, and its bytes.
    decode: blocks to numbers.
  """

  name: str
  count: int
  size: int
  decode: Callable[[Blocks], Numbers]


def _half(x: Blocks) -> Float[np.ndarray, "n 1"]:
  """A float16 of each block, as float32."""
  return np.ascontiguousarray(x).view(np.float16).astype(np.float32)


def _nibbles(x: Blocks) -> UInt8[np.ndarray, "n count"]:
  """The low halves of all bytes, then the high halves."""
  return np.concatenate([x & 15, x >> 4], axis=-1)


def _fifth_bits(x: Blocks) -> UInt8[np.ndarray, "n 32"]:
  """The 32 bits of 4 bytes, each moved to the place above a nibble."""
  return np.unpackbits(x, axis=-1, bitorder="little") << 4


def _f32(x: Blocks) -> Numbers:
  return np.ascontiguousarray(x).view(np.float32)


def _bf16(x: Blocks) -> Numbers:
  return (np.ascontiguousarray(x).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _q4_0(x: Blocks) -> Numbers:
  return _half(x[:, :2]) * (_nibbles(x[:, 2:]).astype(np.float32) - 8)


def _q4_1(x: Blocks) -> Numbers:
  return _half(x[:, :2]) * _nibbles(x[:, 4:]).astype(np.float32) + _half(x[:, 2:4])


def _q5_0(x: Blocks) -> Numbers:
  return _half(x[:, :2]) * ((_nibbles(x[:, 6:]) | _fifth_bits(x[:, 2:6])).astype(np.float32) - 16)


def _q5_1(x: Blocks) -> Numbers:
  quants = (_nibbles(x[:, 8:]) | _fifth_bits(x[:, 4:8])).astype(np.float32)
  return _half(x[:, :2]) * quants + _half(x[:, 2:4])


def _q8_0(x: Blocks) -> Numbers:
  return _half(x[:, :2]) * np.ascontiguousarray(x[:, 2:]).view(np.int8).astype(np.float32)


def _scales_and_minima(x: Blocks) -> tuple[Float[np.ndarray, "n 8 1"], Float[np.ndarray, "n 8 1"]]:
  """What each eighth of a superblock is multiplied by, and what is taken off it: two floats times 6-bit integers."""
  packed = x[:, 4:16].reshape(-1, 3, 4)
  first, second, third = packed[:, 0], packed[:, 1], packed[:, 2]
  scale = np.concatenate([first & 63, (third & 15) | ((first >> 6) << 4)], axis=-1).astype(np.float32)
  least = np.concatenate([second & 63, (third >> 4) | ((second >> 6) << 4)], axis=-1).astype(np.float32)
  return (_half(x[:, :2]) * scale)[..., None], (_half(x[:, 2:4]) * least)[..., None]


def _q4_k(x: Blocks) -> Numbers:
  scale, least = _scales_and_minima(x)
  quants = _nibbles(x[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
  return (scale * quants.astype(np.float32) - least).reshape(-1, 256)


def _q5_k(x: Blocks) -> Numbers:
  scale, least = _scales_and_minima(x)
  low = _nibbles(x[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
  high = (x[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
  return (scale * (low | (high << 4)).astype(np.float32) - least).reshape(-1, 256)


def _q6_k(x: Blocks) -> Numbers:
  low = _nibbles(x[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
  high = (x[:, 128:192].reshape(-1, 2, 1, 32) >> np.arange(0, 8, 2, dtype=np.uint8)[:, None]) & 3
  quants = (low | (high << 4)).astype(np.float32) - 32
  scale = _half(x[:, 208:]) * np.ascontiguousarray(x[:, 192:208]).view(np.int8).astype(np.float32)
  return (scale[..., None] * quants.reshape(-1, 16, 16)).reshape(-1, 256)


KINDS: dict[int, Kind] = {
  0: Kind("F32", 1, 4, _f32),
  1: Kind("F16", 1, 2, _half),
  2: Kind("Q4_0", 32, 18, _q4_0),
  3: Kind("Q4_1", 32, 20, _q4_1),
  6: Kind("Q5_0", 32, 22, _q5_0),
  7: Kind("Q5_1", 32, 24, _q5_1),
  8: Kind("Q8_0", 32, 34, _q8_0),
  12: Kind("Q4_K", 256, 144, _q4_k),
  13: Kind("Q5_K", 256, 176, _q5_k),
  14: Kind("Q6_K", 256, 210, _q6_k),
  30: Kind("BF16", 1, 2, _bf16),
}
"""Number of a type in a file to what it is."""
