"""Convolution as it is written on paper, in float32: what the other implementations are held against."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.ops.nfnet.padding import Pads


def refusal(groups: int) -> str | None:
  """It takes everything."""
  del groups


def convolve(
  x: Float[Array, "b h w c"], kernel: Float[Array, "m n i o"], stride: int, pads: Pads, groups: int
) -> Float[Array, "b p q o"]:
  """y[p, q] = sum over m, n of x[stride p + m - top, stride q + n - left] kernel[m, n], each group by itself."""
  m, n, i, o = kernel.shape
  padded = jnp.pad(x.astype(jnp.float32), ((0, 0), *pads, (0, 0)))
  height, width = ((padded.shape[axis] - size) // stride + 1 for axis, size in ((1, m), (2, n)))
  padded = padded.reshape(*padded.shape[:3], groups, i)
  weights = kernel.astype(jnp.float32).reshape(m, n, i, groups, o // groups)
  total = jnp.zeros((x.shape[0], height, width, groups, o // groups))
  for dy in range(m):
    for dx in range(n):
      seen = padded[:, dy : dy + stride * height : stride, dx : dx + stride * width : stride][:, :height, :width]
      total += jnp.einsum("bpqgi,igo->bpqgo", seen, weights[dy, dx])
  return total.reshape(*total.shape[:3], o).astype(x.dtype)
