"""Images to tokens."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.parallel import Axis
from vljax.types import Rng

UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""U(-1, 1) / sqrt(fan in): how torch starts a convolution."""


class PatchEmbed(nn.Module):
  """Cuts an image into patches of `patch` x `patch` and maps each to `width` (arXiv 2010.11929).

  It is a convolution whose stride is its size, run as a reshape and one matrix product.
  """

  patch: int
  width: int
  use_bias: bool = False
  dtype: Any = "float32"

  @nn.compact
  def __call__(self, image: Float[Array, "b h w c"]) -> Float[Array, "b n d"]:
    """Tokens of the patches, row by row.

    Raises:
      ValueError: the patch does not divide the image.
    """
    (b, h, w, c), p = image.shape, self.patch
    if h % p or w % p:
      raise ValueError(f"patches of {p} x {p} do not divide an image of {h} x {w} pixels")
    init = nn.with_logical_partitioning(UNIFORM, (None, None, None, Axis.EMBED))
    kernel: Any = self.param("kernel", init, (p, p, c, self.width))
    x = image.astype(self.dtype).reshape(b, h // p, p, w // p, p, c).swapaxes(2, 3)
    x = x.reshape(b, (h // p) * (w // p), p * p * c) @ kernel.astype(self.dtype).reshape(p * p * c, self.width)
    if self.use_bias:
      zeros = nn.with_logical_partitioning(nn.initializers.zeros, (Axis.EMBED,))
      bias: Any = self.param("bias", zeros, (self.width,))
      x += bias.astype(self.dtype)
    return x


class ConvPatch(nn.Module):
  """Patches of any rank, which may overlap: [16, 16] of a spectrogram at stride 10, [2, 14, 14] of a clip.

  Where the stride is the patch it is one matrix product, as PatchEmbed; else a convolution.

  Attributes:
    patch: extent of a patch on each axis but the channels.
    stride: on each; None means the patch.
  """

  patch: tuple[int, ...]
  width: int
  stride: tuple[int, ...] | None = None
  dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b n d"]:
    """Tokens of the patches, the last axis fastest; what is too short for a patch at the ends is left out."""
    rank, c = len(self.patch), x.shape[-1]
    init = nn.with_logical_partitioning(UNIFORM, (*(None,) * (rank + 1), Axis.EMBED))
    kernel: Any = self.param("kernel", init, (*self.patch, c, self.width))
    x, kernel, counts = x.astype(self.dtype), kernel.astype(self.dtype), self.grid(x.shape[1:-1])
    stride = self.stride or self.patch
    if stride == self.patch:
      x = x[(slice(None), *(slice(n * p) for n, p in zip(counts, self.patch, strict=True)))]
      x = x.reshape(x.shape[0], *(size for pair in zip(counts, self.patch, strict=True) for size in pair), c)
      order = (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
      return x.transpose(order).reshape(x.shape[0], math.prod(counts), -1) @ kernel.reshape(-1, self.width)
    space = "XYZ"[:rank]
    x = jax.lax.conv_general_dilated(
      x, kernel, stride, "VALID", dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C")
    )
    return x.reshape(x.shape[0], math.prod(counts), self.width)

  @nn.nowrap
  def grid(self, space: tuple[int, ...]) -> tuple[int, ...]:
    """How many patches an input of these extents has on each axis.

    Raises:
      ValueError: another number of axes, or fewer values on one than a patch is long.
    """
    strides = self.stride or self.patch
    if not len(space) == len(self.patch) == len(strides) or any(s < p for s, p in zip(space, self.patch, strict=True)):
      raise ValueError(f"patches of {self.patch} at stride {strides} do not fit an input of {tuple(space)}")
    return tuple((s - p) // t + 1 for s, p, t in zip(space, self.patch, strides, strict=True))


def patch_dropout(rng: Rng, x: Float[Array, "b n d"], rate: float, keep: int = 0) -> Float[Array, "b m d"]:
  """A random subset of each example's tokens, in their order, without the share `rate` (FLIP, arXiv 2212.00794).

  The first `keep` tokens (the class token) always stay. At least one other token stays.
  """
  b, n, _ = x.shape
  kept = max(1, round((n - keep) * (1 - rate)))
  draws = jax.random.uniform(rng, (b, n - keep))
  index = jnp.sort(jnp.argsort(draws, axis=1)[:, :kept], axis=1) + keep
  always = jnp.broadcast_to(jnp.arange(keep), (b, keep))
  return jnp.take_along_axis(x, jnp.concatenate([always, index], 1)[..., None], axis=1)
