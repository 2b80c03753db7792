"""Batch normalization with the statistics of the whole batch."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

STATISTICS = "batch_stats"
"""The collection of running means and variances, and its key among a recipe's extras and a bundle's weights."""


class BatchNorm(nn.Module):
  """(x - mean) / sqrt(variance + epsilon) * scale + bias per channel, in float32 (arXiv 1502.03167).

  Arrays are global, so in training mean and variance are those of the batch over all devices. The running ones move by
  1 - momentum per step towards the batch's; the variance is the biased one, as in SimCLR's code (torch keeps the
  unbiased one, which is n / (n - 1) of it).
  """

  momentum: float = 0.9
  epsilon: float = 1e-5
  use_scale: bool = True
  use_bias: bool = True
  scale_init: nn.initializers.Initializer = nn.initializers.ones
  dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "*b c"], *, train: bool = False) -> Float[Array, "*b c"]:
    """Normalizes with the batch's statistics and moves the running ones if `train`, else with the running ones."""
    width = (x.shape[-1],)
    running_mean = self.variable(STATISTICS, "mean", jnp.zeros, width)
    running_variance = self.variable(STATISTICS, "variance", jnp.ones, width)
    mean, variance = running_mean.value, running_variance.value
    x = x.astype(jnp.float32)
    if train:
      axes = tuple(range(x.ndim - 1))
      mean = x.mean(axes)
      variance = jnp.square(x - mean).mean(axes)
      if not self.is_initializing():
        for running, now in ((running_mean, mean), (running_variance, variance)):
          now = jax.lax.stop_gradient(now)
          running.value = self.momentum * running.value + (1 - self.momentum) * now
    factor = jax.lax.rsqrt(variance + self.epsilon)
    if self.use_scale:
      factor *= self.param("scale", nn.with_logical_partitioning(self.scale_init, (None,)), width)
    shift = -mean * factor
    if self.use_bias:
      shift += self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, (None,)), width)
    return (x * factor + shift).astype(self.dtype)


def variables(weights: Mapping[str, Any]) -> dict[str, Any]:
  """Flax's variables of weights that may hold running statistics under their own key."""
  params = {name: value for name, value in weights.items() if name != STATISTICS}
  return {"params": params, **({STATISTICS: weights[STATISTICS]} if STATISTICS in weights else {})}
