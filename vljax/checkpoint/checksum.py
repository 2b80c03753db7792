"""Checksums of arrays where they lie: one number per leaf, computed on the devices that hold it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def checksums(leaves: dict[str, Any]) -> dict[str, int]:
  """The checksum of each array, the same for any sharding; processes must call this together.

  With u_i the bits of element i (in 32-bit words, in row-major order) the checksum is

    sum_i mix(u_i) * (2 i + 1)  mod 2^32,

  where mix is a bijection of the 32-bit words (the finalizer of MurmurHash3, Appleby 2011, without its last round).
  An odd weight times a change that is not zero is not zero, so any change within one element is seen; since weights
  differ, so are swaps, but for one chance in 2^31 or so.
  """
  # Each is fetched before the next begins: hundreds of sharded programs in flight hang XLA's simulated CPU devices.
  return {name: int(_checksum(_words(leaf))) for name, leaf in leaves.items()}


def _words(leaf: Any) -> Any:
  """Numpy's 64-bit numbers as pairs of 32-bit words, which JAX would narrow to one; the rest as it is."""
  if not isinstance(leaf, jax.Array) and (leaf := np.asarray(leaf)).dtype.itemsize == 8:
    return np.ascontiguousarray(leaf).reshape(*leaf.shape, 1).view(np.uint32)
  return leaf


@jax.jit
def _checksum(x: jax.Array) -> jax.Array:
  bits = _bits(x)
  bits = (bits ^ (bits >> 16)) * np.uint32(0x85EBCA6B)
  bits = (bits ^ (bits >> 13)) * np.uint32(0xC2B2AE35)
  index = jnp.zeros(bits.shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(bits.ndim)):
    index += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * np.uint32(stride % 2**32)
    stride *= bits.shape[axis]
  return jnp.sum(bits * (2 * index + 1), dtype=jnp.uint32)


def _bits(x: jax.Array) -> jax.Array:
  if x.dtype == bool:
    return x.astype(jnp.uint32)
  if jnp.iscomplexobj(x):
    return jnp.stack([_bits(x.real), _bits(x.imag)], axis=-1)
  if jnp.issubdtype(x.dtype, jnp.integer) and x.dtype.itemsize < 4:
    return x.astype(jnp.uint32)
  if x.dtype.itemsize < 4:
    return jax.lax.bitcast_convert_type(x, f"uint{x.dtype.itemsize * 8}").astype(jnp.uint32)
  return jax.lax.bitcast_convert_type(x, jnp.uint32)
