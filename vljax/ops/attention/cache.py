"""Keys and values of what was read before, of all layers of a decoder, for decoding token by token."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
  """Room for the keys and values of s tokens in each of n layers; example b fills its first length[b] places.

  Padding takes no place, so texts of different lengths may be padded on either side, and each goes on where it ends.
  A step of the decoder does

      places = cache.places(real)
      for each layer i:
        cache = cache.put(i, key, value, places)
        attention(query, *cache.layer(i), causal=True, offset=cache.offset(real))
      cache = cache.grown(real)

  which is exact where the real tokens of an example stand in a row.
  """

  key: Float[Array, "n b s g d"]
  value: Float[Array, "n b s g d"]
  length: Int[Array, "b"]

  @classmethod
  def empty(
    cls, layers: int, batch: int, room: int, heads: int, dim: int, dtype: jax.typing.DTypeLike = jnp.float32
  ) -> "Cache":
    """Room for `room` tokens of `heads` key heads in each layer."""
    zeros = jnp.zeros((layers, batch, room, heads, dim), dtype)
    return cls(zeros, zeros, jnp.zeros(batch, jnp.int32))

  @property
  def room(self) -> int:
    """The places of an example."""
    return self.key.shape[2]

  def places(self, real: Bool[Array, "b t"]) -> Int[Array, "b t"]:
    """Where the next tokens go: after what is there, those that are not real nowhere.

    Raises:
      ValueError: more tokens than the whole room. What exceeds what is left of it is lost: give room enough.
    """
    if real.shape[1] > self.room:
      raise ValueError(f"{real.shape[1]} tokens do not fit into a cache with room for {self.room}")
    count = jnp.cumsum(real, axis=1, dtype=jnp.int32)
    return jnp.where(real, self.length[:, None] + count - 1, self.room)

  def offset(self, real: Bool[Array, "b t"]) -> Int[Array, "b"]:
    """What `attention` takes as `offset` for these tokens; below the length by the padding in front of them."""
    return self.length - jnp.argmax(real, axis=1).astype(jnp.int32)

  def put(
    self, layer: int | Int[Array, ""], key: Float[Array, "b t g d"], value: Float[Array, "b t g d"],
    places: Int[Array, "b t"],
  ) -> "Cache":  # fmt: skip
    """The cache with the keys and values of one layer written to their places."""
    at = (layer, jnp.arange(places.shape[0])[:, None], places)
    write = lambda old, new: old.at[at].set(new.astype(old.dtype), mode="drop")
    return dataclasses.replace(self, key=write(self.key, key), value=write(self.value, value))

  def layer(self, layer: int | Int[Array, ""]) -> tuple[Float[Array, "b s g d"], Float[Array, "b s g d"]]:
    """Keys and values of one layer."""
    get = lambda x: jax.lax.dynamic_index_in_dim(x, layer, keepdims=False)
    return get(self.key), get(self.value)

  def grown(self, real: Bool[Array, "b t"]) -> "Cache":
    """The cache after all layers have written."""
    return dataclasses.replace(self, length=self.length + real.sum(1, dtype=jnp.int32))

  def take(self, rows: Int[Array, "c"]) -> "Cache":
    """The cache of these examples, each as often as it is named."""
    return Cache(self.key[:, rows], self.value[:, rows], self.length[rows])

  reorder = take
