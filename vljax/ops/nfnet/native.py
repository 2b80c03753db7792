"""Convolution by XLA's own operation, groups and all: the way of TPUs, and of whatever has one group."""

import jax
from jaxtyping import Array, Float

from vljax.ops.nfnet.padding import Pads


def refusal(groups: int) -> str | None:
  """It takes everything."""
  del groups


def convolve(
  x: Float[Array, "b h w c"], kernel: Float[Array, "m n i o"], stride: int, pads: Pads, groups: int
) -> Float[Array, "b p q o"]:
  """One call; kernels of 1 x 1 run as a matrix product, which on CPUs is 1.5 times faster."""
  if kernel.shape[:2] == (1, 1) and groups == 1:
    return x[:, ::stride, ::stride] @ kernel[0, 0]
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
  )
