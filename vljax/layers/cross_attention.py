"""The projections of attention to something else, whose keys and values can be made apart and kept."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from vljax import config, parallel
from vljax.layers.linear import Linear
from vljax.layers.norm import LayerNorm, RmsNorm
from vljax.parallel import Axis

QK_NORMS: dict[str, Callable[..., nn.Module] | None] = {"none": None, "layer": LayerNorm, "rms": RmsNorm}
FAN_IN = functools.partial(nn.initializers.variance_scaling, mode="fan_in", distribution="normal")

Pair = tuple[Float[Array, "*b s k d"], Float[Array, "*b s k d"]]
"""Keys and values."""


class CrossAttention(nn.Module):
  """Queries of x, keys and values of a context, and the way back into x, without biases; the caller attends.

  Attributes:
    width: of x.
    head_dim: width of a head.
    qk_norm: of queries and keys, over each head, a key of QK_NORMS (IDEFICS).
    residual_scale: what the initial standard deviation of `out` is multiplied by.
    epsilon: of the norms.
  """

  width: int
  heads: int
  head_dim: int
  qk_norm: str = "none"
  residual_scale: float = 1.0
  epsilon: float = 1e-5
  dtype: Any = "float32"

  def setup(self):
    into = lambda: Linear(
      (self.heads, self.head_dim), (Axis.EMBED, Axis.HEADS, Axis.HEAD_DIM), FAN_IN(1.0, in_axis=0, out_axis=(1, 2)),
      use_bias=False, dtype=self.dtype,
    )  # fmt: skip
    self.query, self.key, self.value = into(), into(), into()
    init, axes = (
      nn.initializers.normal(self.width**-0.5 * self.residual_scale),
      (Axis.HEADS, Axis.HEAD_DIM, Axis.EMBED),
    )
    self.out = Linear((self.width,), axes, init, use_bias=False, dtype=self.dtype)
    norm = config.choose("qk_norm", self.qk_norm, QK_NORMS)
    if norm is not None:
      self.query_norm, self.key_norm = (norm(epsilon=self.epsilon, dtype=self.dtype) for _ in range(2))

  def queries(self, x: Float[Array, "*b t d"]) -> Float[Array, "*b t k c"]:
    """The queries of x."""
    return self._shared(self._normed("query", self.query(x)))

  def keys_values(self, context: Float[Array, "*b s e"]) -> Pair:
    """Keys and values of a context."""
    return self._shared(self._normed("key", self.key(context))), self._shared(self.value(context))

  def merge(self, x: Float[Array, "*b t k c"]) -> Float[Array, "*b t d"]:
    """What the heads read, as an addition to x."""
    return self.out(x)

  def _normed(self, name: str, x: Float[Array, "*b n k c"]) -> Float[Array, "*b n k c"]:
    return x if self.qk_norm == "none" else getattr(self, f"{name}_norm")(x)

  def _shared(self, x: Float[Array, "*b n k c"]) -> Float[Array, "*b n k c"]:
    return parallel.constrain(x, Axis.BATCH, *(None,) * (x.ndim - 3), Axis.HEADS, Axis.HEAD_DIM)
