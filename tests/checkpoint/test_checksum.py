import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from vljax import parallel
from vljax.checkpoint.checksum import checksums

DTYPES = ["float32", "bfloat16", "float16", "int32", "uint8", "int8", "bool", "complex64", "float8_e4m3fn", "float64"]


def one(x):
  return checksums({"x": x})["x"]


def data(dtype, n=64):
  return np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, n).astype(jnp.dtype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_bit_is_seen(dtype):
  x = data(dtype)
  whole = one(x)
  assert whole == one(x.copy())
  flipped = bytearray(x.tobytes())
  for bit in {0, 7, 8 * x.itemsize - 1} if dtype != "bool" else {0}:
    changed = bytearray(flipped)
    changed[5 * x.itemsize + bit // 8] ^= 1 << bit % 8
    assert one(np.frombuffer(bytes(changed), x.dtype)) != whole


@pytest.mark.parametrize("dtype", DTYPES)
def test_swaps_are_seen(dtype):
  x = data(dtype)
  i, j = 3, next(k for k in range(4, 64) if x[k] != x[3])
  swapped = x.copy()
  swapped[[i, j]] = x[[j, i]]
  assert one(swapped) != one(x)


def test_swapped_signs_are_seen():
  assert one(np.float32([1.0, -1.0])) != one(np.float32([-1.0, 1.0]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255))
def test_any_swap(i, j):
  x = np.arange(256, dtype=np.float32)
  swapped = x.copy()
  swapped[[i, j]] = x[[j, i]]
  assert (one(swapped) == one(x)) == (i == j)


def test_any_sharding():
  x = np.random.default_rng(0).normal(size=(8, 12, 16)).astype(np.float32)
  mesh = parallel.make(parallel.Mesh(data=2, fsdp=2, tensor=2))
  specs = [(), ("data",), (None, "fsdp", ("data", "tensor")), ("tensor", None, "data")]
  placed = {str(spec): jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec))) for spec in specs}
  assert set(checksums(placed).values()) == {one(x)}


def test_nothing_is_gathered():
  from vljax.checkpoint import checksum

  mesh = parallel.make()
  x = jax.device_put(np.zeros((8, 128), np.float32), NamedSharding(mesh, PartitionSpec("data")))
  text = checksum._checksum.lower(x).compile().as_text()
  assert "all-reduce" in text
  assert "all-gather" not in text


def test_empty_and_scalar():
  assert one(np.zeros((0, 3), np.float32)) == 0
  assert one(np.float32(1)) != one(np.float32(2))
