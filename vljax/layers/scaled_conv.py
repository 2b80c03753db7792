"""Convolution with scaled weight standardization."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from vljax.ops import nfnet
from vljax.parallel import Axis
from vljax.types import Params


@dataclasses.dataclass(frozen=True)
class Standardization:
  """How the convolutions of a network make their kernels from what is stored.

  Attributes:
    eps: a key of ops.nfnet.EPSILONS.
    gamma: what kernels are multiplied by.
    folded: the kernels that a module gets are standardized already, with their gains in them.
  """

  eps: str = "deepmind"
  gamma: float = 1.0
  folded: bool = False

  def __call__(self, kernel: Float[Array, "*n h w i o"], gain: Float[Array, "*n o"]) -> Float[Array, "*n h w i o"]:
    """The kernel that is convolved with."""
    return kernel if self.folded else nfnet.standardize(kernel, gain, eps=self.eps, gamma=self.gamma)

  def fold(self, params: Params) -> Params:
    """A tree in which each `kernel` with a `gain` beside it, alone or stacked, is standardized; the rest stays."""
    if "gain" in params:
      return {**params, "kernel": self(params["kernel"], params["gain"])}
    return {name: self.fold(value) if isinstance(value, Mapping) else value for name, value in params.items()}


class ScaledConv(nn.Module):
  """conv(x, standardize(kernel, gain)) + bias (arXiv 2101.08692).

  Attributes:
    features: output channels.
    kernel: height and width.
    groups: of channels that are convolved apart.
    padding: `same` or `symmetric`, see ops.nfnet.
    implementation: of `ops.nfnet.conv`; None picks.
  """

  features: int
  kernel: int = 3
  stride: int = 1
  groups: int = 1
  gain_init: nn.initializers.Initializer = nn.initializers.ones
  standardization: Standardization = Standardization()
  padding: str = "same"
  implementation: str | None = None
  dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j k"]:
    init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    boxed = lambda init, *axes: nn.with_logical_partitioning(init, axes)
    shape = (self.kernel, self.kernel, x.shape[-1] // self.groups, self.features)
    kernel: Any = self.param("kernel", boxed(init, None, None, Axis.CONV_IN, Axis.CONV_OUT), shape)
    gain: Any = self.param("gain", boxed(self.gain_init, Axis.CONV_OUT), (self.features,))
    bias: Any = self.param("bias", boxed(nn.initializers.zeros, Axis.CONV_OUT), (self.features,))
    y = nfnet.conv(
      x.astype(self.dtype), self.standardization(kernel, gain).astype(self.dtype), stride=self.stride,
      groups=self.groups, padding=self.padding, implementation=self.implementation,
    )  # fmt: skip
    return y + bias.astype(self.dtype)
