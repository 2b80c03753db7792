"""A resampler's attention as its paper writes it: media and latents one after the other, in float32."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vljax.ops.attention import reference
from vljax.ops.attention.call import Call
from vljax.ops.attention.masks import Masks

Pair = tuple[Float[Array, "b s k d"], Float[Array, "b s k d"]]


def refusal(call: Call) -> str | None:
  """It takes everything."""
  del call


def attend(
  query: Float[Array, "b l k d"], media: Pair, latents: Pair, padding: Bool[Array, "b s"] | None, scale: float
) -> Float[Array, "b l k d"]:
  """Attention over the concatenation."""
  key, value = (jnp.concatenate(pair, axis=1) for pair in zip(media, latents, strict=True))
  return reference.attend(query, key, value, None, Masks(key_padding=both(padding, latents)), scale)


def both(padding: Bool[Array, "b s"] | None, latents: Pair) -> Bool[Array, "b n"] | None:
  """Which of all keys are real; the latents are."""
  return None if padding is None else jnp.concatenate([padding, jnp.ones(latents[0].shape[:2], bool)], axis=1)
