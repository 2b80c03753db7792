"""Bands of spectrograms hidden at random, per example (SpecAugment, arXiv 1904.08779)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vljax.types import Rng


def band(rng: Rng, x: Float[Array, "b ..."], axis: int, widest: int, fill: float = 0.0) -> Float[Array, "b ..."]:
  """The array with one band of each example, up to `widest` values of the axis wide, set to `fill`.

  The width is uniform over 0 to widest - 1 and at most the axis, the place uniform over those where it fits.
  """
  length = x.shape[axis]
  first, second = jax.random.split(rng)
  width = jnp.floor(jax.random.uniform(first, (x.shape[0], 1)) * min(widest, length))
  start = jnp.floor(jax.random.uniform(second, (x.shape[0], 1)) * (length - width + 1))
  at = jnp.arange(length)
  hidden: Bool[Array, "b n"] = (at >= start) & (at < start + width)
  shape = [1] * x.ndim
  shape[0], shape[axis] = x.shape[0], length
  return jnp.where(hidden.reshape(shape), fill, x)
