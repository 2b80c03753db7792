"""How attention knows where tokens stand: rotary turns, ALiBi's slopes, Transformer-XL's distances."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def rotary_table(
  positions: Int[Array, "b t"], dim: int, base: float
) -> tuple[Float[Array, "b t r"], Float[Array, "b t r"]]:
  """Cosines and sines of position * base^(-2 i / dim), i below r = dim / 2 (RoFormer, arXiv 2104.09864)."""
  angles = positions[..., None] * jnp.asarray(base ** (-np.arange(0, dim, 2) / dim), jnp.float32)
  return jnp.cos(angles), jnp.sin(angles)


def rotate(
  x: Float[Array, "b t k d"], table: tuple[Float[Array, "b t r"], Float[Array, "b t r"]], interleaved: bool = False
) -> Float[Array, "b t k d"]:
  """The first 2 r numbers of each head turned by their position, in pairs; the others stay (GPT-NeoX's fraction).

  Args:
    interleaved: pairs are (0, 1), (2, 3) ... as in RoFormer and GPT-J; else (0, r), (1, r + 1) ... as in GPT-NeoX and
      LLaMA.
  """
  cos, sin = (part[:, :, None] for part in table)
  turned = 2 * cos.shape[-1]
  y = x[..., :turned].astype(jnp.float32)
  a, b = (y[..., ::2], y[..., 1::2]) if interleaved else jnp.split(y, 2, axis=-1)
  a, b = a * cos - b * sin, b * cos + a * sin
  y = jnp.stack([a, b], axis=-1).reshape(y.shape) if interleaved else jnp.concatenate([a, b], axis=-1)
  return jnp.concatenate([y.astype(x.dtype), x[..., turned:]], axis=-1)


def alibi_slopes(heads: int, steepest: float = 8.0) -> Float[np.ndarray, "k"]:
  """2^(-steepest i / k) for heads i = 1 ... k; other k than powers of two take those of the next power, each second
  first (arXiv 2108.12409)."""
  power = 2 ** math.ceil(math.log2(heads))
  slopes = 2.0 ** (-steepest * np.arange(1, power + 1) / power)
  slopes = slopes if power == heads else np.concatenate([slopes[1::2], slopes[::2]])[:heads]
  return slopes.astype(np.float32)


def alibi(heads: int, keys: int, last: Int[Array, "b"] | int) -> Float[Array, "b k 1 s"]:
  """The bias slope * (j - last) of key j, which in a softmax is as good as slope * (j - i) for each query i."""
  distance = jnp.arange(keys) - jnp.asarray(last).reshape(-1, 1)
  return alibi_slopes(heads)[:, None, None] * distance[:, None, None, :]


def sinusoids(distances: Int[Array, "s"], width: int) -> Float[Array, "s d"]:
  """sin and then cos of distance * 10000^(-2 i / width) (arXiv 1706.03762, 1901.02860)."""
  angles = distances[:, None] * jnp.asarray(10_000.0 ** (-np.arange(0, width, 2) / width), jnp.float32)
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[:, :width]


def by_distance(scores: Float[Array, "b k t s"], offset: Int[Array, "b"] | None = None) -> Float[Array, "b k t s"]:
  """Scores of distances 0 ... s - 1 to scores of keys: out[i, j] = scores[i, i - j], of no meaning for j > i.

  Args:
    offset: the place of each example's first query; None: queries and keys are the same tokens.
  """
  b, k, t, s = scores.shape
  if offset is None:
    skewed = jnp.pad(scores[..., ::-1], ((0, 0), (0, 0), (0, 0), (1, 0))).reshape(b, k, s + 1, t)
    return skewed[:, :, 1:].reshape(b, k, t, s)
  distance = offset[:, None, None] + jnp.arange(t)[:, None] - jnp.arange(s)
  return jnp.take_along_axis(scores, jnp.clip(distance, 0, s - 1)[:, None], axis=-1)
