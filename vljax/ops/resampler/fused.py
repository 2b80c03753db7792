"""A resampler's attention by a fused kernel of `ops.attention`, which wants its keys in one piece."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vljax.ops import attention
from vljax.ops.attention.call import Call
from vljax.ops.resampler.reference import Pair, both


def refusal(call: Call) -> str | None:
  """Why there is no fused kernel for this call; None if there is."""
  found = attention.choose(call)
  return "attention has no fused kernel for it" if found in ("xla", "reference") else None


def attend(
  query: Float[Array, "b l k d"], media: Pair, latents: Pair, padding: Bool[Array, "b s"] | None, scale: float
) -> Float[Array, "b l k d"]:
  """Attention over the concatenation, whose scores are never stored."""
  key, value = (jnp.concatenate(pair, axis=1) for pair in zip(media, latents, strict=True))
  return attention.attention(query, key, value, key_padding=both(padding, latents), scale=scale)
