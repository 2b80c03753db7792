"""Scaled weight standardization."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax import config

EPSILONS: dict[str, Callable[[Any, int], Any]] = {
  "deepmind": lambda variance, fan_in: jnp.maximum(variance * fan_in, 1e-4),
  "timm": lambda variance, fan_in: (variance + 1e-5) * fan_in,
}
"""What the kernel is divided by the root of: DeepMind's code bounds it from below, timm's adds to the variance. The
two differ where a kernel's deviation is near 0.003, which is that of wide layers (fan-in of 3,072: 0.018)."""


def standardize(
  kernel: Float[Array, "*n h w i o"], gain: Float[Array, "*n o"], *, eps: str = "deepmind", gamma: float = 1.0
) -> Float[Array, "*n h w i o"]:
  """gamma * gain * (kernel - mean) / sqrt(fan_in * variance) of each output channel (arXiv 2101.08692, section 4.3).

  So a channel's output has variance (gamma * gain)^2 for inputs of variance 1 and mean 0, however the kernel moves. In
  float32 whatever the dtypes; leading axes are layers.

  Args:
    eps: how the variance is kept from zero, a key of EPSILONS.
    gamma: of the activation that the input went through, where it is not applied there (timm's nfnet models).

  Raises:
    ValueError: an unknown eps, with the nearest.
  """
  floor = config.choose("eps of scaled weight standardization", eps, EPSILONS)
  shape, fan_in = kernel.shape, math.prod(kernel.shape[-4:-1])
  rows = kernel.astype(jnp.float32).reshape(*shape[:-4], fan_in, shape[-1])
  centered = rows - _mean(rows)
  variance = _mean(jnp.square(centered))
  return (centered * (gamma * jax.lax.rsqrt(floor(variance, fan_in)) * gain[..., None, :])).reshape(shape)


def _mean(rows: Float[Array, "*n i o"]) -> Float[Array, "*n 1 o"]:
  """The mean over i; as a product on CPUs, where XLA's gradient of a mean over rows takes five times as long."""
  if jax.default_backend() != "cpu":
    return rows.mean(-2, keepdims=True)
  shares = jnp.full((1, rows.shape[-2]), 1 / rows.shape[-2], rows.dtype)
  return jnp.matmul(shares, rows, precision="highest")
