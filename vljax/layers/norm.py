"""Normalization."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.parallel import Axis


class LayerNorm(nn.Module):
  """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis, in float32 (arXiv 1607.06450)."""

  epsilon: float = 1e-5
  dtype: Any = "float32"
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    width = (x.shape[-1],)
    scale = self.param("scale", nn.with_logical_partitioning(nn.initializers.ones, (Axis.EMBED,)), width)
    zeros = nn.with_logical_partitioning(nn.initializers.zeros, (Axis.EMBED,))
    bias = self.param("bias", zeros, width) if self.use_bias else 0.0
    x = x.astype(jnp.float32)
    x -= x.mean(-1, keepdims=True)
    x *= jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.epsilon)
    return (x * scale + bias).astype(self.dtype)


class RmsNorm(nn.Module):
  """x / sqrt(mean(x^2) + epsilon) * scale over the last axis, in float32 (arXiv 1910.07467)."""

  epsilon: float = 1e-5
  dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    ones = nn.with_logical_partitioning(nn.initializers.ones, (Axis.EMBED,))
    scale = self.param("scale", ones, (x.shape[-1],))
    x = x.astype(jnp.float32)
    x *= jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.epsilon)
    return (x * scale).astype(self.dtype)
