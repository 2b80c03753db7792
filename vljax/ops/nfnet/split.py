"""Grouped convolution as one dense convolution per group: XLA's own is 6 to 131 times slower backward on CPUs."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.ops.nfnet import native
from vljax.ops.nfnet.padding import Pads

MOST = 64
"""Groups up to which the calls are worth it; with one channel in each there are better ways."""


def refusal(groups: int) -> str | None:
  """Why it does not run so many groups, if so."""
  return f"{groups} groups; legal: {MOST} at most" if groups > MOST else None


def convolve(
  x: Float[Array, "b h w c"], kernel: Float[Array, "m n i o"], stride: int, pads: Pads, groups: int
) -> Float[Array, "b p q o"]:
  """Channels and kernels cut into groups, convolved apart, put together again."""
  parts = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True)
  return jnp.concatenate([native.convolve(part, own, stride, pads, 1) for part, own in parts], axis=-1)
