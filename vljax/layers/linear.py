"""Linear maps between groups of axes."""

from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from vljax.parallel import Axis


class Linear(nn.Module):
  """x [..., *inputs] and kernel [*inputs, *features] to x @ kernel + bias [..., *features].

  Attributes:
    features: lengths of the output's axes.
    axes: logical names of the kernel's axes; its last len(features) ones name the bias too.
    kernel_init: initializer of the kernel.
  """

  features: tuple[int, ...]
  axes: tuple[Axis | None, ...]
  kernel_init: nn.initializers.Initializer
  use_bias: bool = True
  dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
    count = len(self.axes) - len(self.features)
    inputs = x.shape[x.ndim - count :]
    kernel: Any = self.param(
      "kernel", nn.with_logical_partitioning(self.kernel_init, self.axes), (*inputs, *self.features)
    )
    contracted = tuple(range(x.ndim - count, x.ndim)), tuple(range(count))
    y = jax.lax.dot_general(x.astype(self.dtype), kernel.astype(self.dtype), (contracted, ((), ())))
    if self.use_bias:
      zeros = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[count:])
      bias: Any = self.param("bias", zeros, self.features)
      y += bias.astype(self.dtype)
    return y
