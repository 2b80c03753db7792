"""What a query may see, by meaning; dense booleans are made only where an implementation needs them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Masks(NamedTuple):
  """Who sees whom. A query sees a key if every mask that is given allows it.

  Attributes:
    causal: query i, at position offset + i, sees the keys at positions up to its own.
    offset: position of the first query, the same for all examples or one for each.
    key_padding: which keys are real.
    segments: ids of the queries and of the keys; equal ids see each other.
    media: for each query the number of its medium (0: none, it sees nothing), for each key the number of the medium
      that it belongs to (Flamingo's phi, arXiv 2204.14198, appendix A.1.3).
    media_first: for each query the first medium that it sees; it then sees all from that one to its own.
  """

  causal: bool = False
  offset: int | Int[Array, ""] | Int[Array, "b"] = 0
  key_padding: Bool[Array, "b s"] | None = None
  segments: tuple[Int[Array, "b t"], Int[Array, "b s"]] | None = None
  media: tuple[Int[Array, "b t"], Int[Array, "b s"]] | None = None
  media_first: Int[Array, "b t"] | None = None

  @property
  def kinds(self) -> frozenset[str]:
    """The names of the masks that are given; `offset` counts when it may differ from 0."""
    given = {name for name in ("key_padding", "segments", "media") if getattr(self, name) is not None}
    given |= {"causal"} if self.causal else set()
    shifted = self.causal and not (isinstance(self.offset, int) and self.offset == 0)
    return frozenset(given | {"offset"} if shifted else given)


def visible(
  masks: Masks, queries: int, keys: int, start: int | Int[Array, ""] = 0, count: int | None = None
) -> Bool[Array, "#b #t #s"] | None:
  """Which of the keys start ... start + count - 1 each query sees; None means all. Axes may have length 1."""
  count = keys if count is None else count
  whole = count == keys

  def part(x: Array) -> Array:
    return x if whole else jax.lax.dynamic_slice_in_dim(x, start, count, axis=1)

  parts = []
  if masks.causal:
    position = jnp.asarray(masks.offset)[..., None] + jnp.arange(queries)
    parts.append(jnp.atleast_2d(position)[:, :, None] >= start + jnp.arange(count))
  if masks.key_padding is not None:
    parts.append(part(masks.key_padding)[:, None, :])
  if masks.segments is not None:
    parts.append(masks.segments[0][:, :, None] == part(masks.segments[1])[:, None, :])
  if masks.media is not None:
    last, own = masks.media[0][:, :, None], part(masks.media[1])[:, None, :]
    first = last if masks.media_first is None else masks.media_first[:, :, None]
    parts.append((first <= own) & (own <= last) & (own != 0))
  seen: Any = None
  for mask in parts:
    seen = mask if seen is None else seen & mask
  return seen
