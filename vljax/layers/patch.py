"""Images to tokens."""

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
