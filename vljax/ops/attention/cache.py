"""Keys and values of what was read before, for decoding token by token."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
  """Room for the keys and values of S positions, the first `length` filled (for all examples, or one length each).

  After `cache = cache.append(key, value)` the new queries attend to all of it:
  `attention(query, cache.key, cache.value, causal=True, offset=cache.length - query.shape[1])`.
  """

  key: Float[Array, "b s g d"]
  value: Float[Array, "b s g d"]
  length: Int[Array, ""] | Int[Array, "b"]

  @classmethod
  def empty(cls, batch: int, length: int, heads: int, dim: int, dtype: jax.typing.DTypeLike = jnp.float32) -> "Cache":
    """Room for `length` positions of `heads` key heads."""
    room = jnp.zeros((batch, length, heads, dim), dtype)
    return cls(room, room, jnp.zeros((), jnp.int32))

  def append(self, key: Float[Array, "b n g d"], value: Float[Array, "b n g d"]) -> "Cache":
    """The cache with n more positions. What does not fit lands on the last ones: give it room enough.

    Raises:
      ValueError: n alone exceeds the room.
    """
    n, room = key.shape[1], self.key.shape[1]
    if n > room:
      raise ValueError(f"{n} positions do not fit into a cache of {room}")
    write = lambda old, new, at: jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), at, axis=0)
    put = jax.vmap(write, in_axes=(0, 0, 0 if self.length.ndim else None))
    return Cache(put(self.key, key, self.length), put(self.value, value, self.length), self.length + n)
