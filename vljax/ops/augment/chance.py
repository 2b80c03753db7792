"""What happens to some examples of a batch only."""

import jax
import jax.numpy as jnp

from vljax.types import Array, Float, Rng


def some(rng: Rng, p: float, changed: Float[Array, "b ..."], images: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
  """Each example of `changed` with probability p, else of `images`."""
  if p >= 1:
    return changed
  chosen = jax.random.bernoulli(rng, p, images.shape[:1])
  return jnp.where(per_example(chosen, images), changed, images)


def per_example(x: Array, images: Float[Array, "b ..."]) -> Array:
  """One number per example, shaped to go with the images."""
  return x.reshape(-1, *(1,) * (images.ndim - 1))
