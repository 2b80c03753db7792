"""Multi-head attention with its projections."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax import parallel
from vljax.layers.linear import Linear
from vljax.ops.attention import attention
from vljax.parallel import Axis


class Attention(nn.Module):
  """out(attention(query(x), key(y), value(y))), y being x itself or a context (arXiv 1706.03762, section 3.2).

  Attributes:
    heads: query heads.
    head_dim: width of a head; None means width / heads.
    kv_heads: key and value heads, each shared by heads / kv_heads query heads (arXiv 2305.13245); None means heads.
    residual_scale: what the initial standard deviation of `out` is multiplied by.
    bias_kv: one more key and value, learned, that every query sees (torch's MultiheadAttention has it as add_bias_kv).
    implementation: of `ops.attention`; None picks.
  """

  heads: int
  head_dim: int | None = None
  kv_heads: int | None = None
  use_bias: bool = True
  residual_scale: float = 1.0
  dtype: Any = "float32"
  implementation: str | None = None
  bias_kv: bool = False

  @nn.compact
  def __call__(
    self, x: Float[Array, "b t d"], context: Float[Array, "b s e"] | None = None, **masks: Any
  ) -> Float[Array, "b t d"]:
    """Attends; `masks` go to `ops.attention`.

    Raises:
      ValueError: the heads do not divide the width and head_dim is None, or masks beside bias_kv.
    """
    context = x if context is None else context
    query, key, value = self._projected(x, context)
    if self.bias_kv:
      if masks:
        raise ValueError(f"attention with bias_kv takes no masks; found {', '.join(sorted(masks))}")
      key, value = self._appended("key_token", key), self._appended("value_token", value)
    return self._out(attention(query, key, value, implementation=self.implementation, **masks), x.shape[-1])

  def _projected(
    self, x: Float[Array, "b t d"], context: Float[Array, "b s e"]
  ) -> tuple[Float[Array, "b t k c"], Float[Array, "b s g c"], Float[Array, "b s g c"]]:
    width = x.shape[-1]
    if self.head_dim is None and width % self.heads:
      raise ValueError(
        f"heads = {self.heads} does not divide width = {width}; set head_dim, or another number of heads"
      )
    dim = self.head_dim or width // self.heads

    def project(name: str, heads: int, source: Float[Array, "b n e"]) -> Float[Array, "b n k c"]:
      init, axes = nn.initializers.normal(source.shape[-1] ** -0.5), (Axis.EMBED, Axis.HEADS, Axis.HEAD_DIM)
      y = Linear((heads, dim), axes, init, self.use_bias, self.dtype, name=name)(source)
      return parallel.constrain(y, Axis.BATCH, Axis.POSITION, Axis.HEADS, Axis.HEAD_DIM)

    kv_heads = self.kv_heads or self.heads
    return project("query", self.heads, x), project("key", kv_heads, context), project("value", kv_heads, context)

  def _out(self, x: Float[Array, "b t k d"], width: int) -> Float[Array, "b t d"]:
    init = nn.initializers.normal(width**-0.5 * self.residual_scale)
    return Linear((width,), (Axis.HEADS, Axis.HEAD_DIM, Axis.EMBED), init, self.use_bias, self.dtype, name="out")(x)

  def _appended(self, name: str, x: Float[Array, "b s k d"]) -> Float[Array, "b s1 k d"]:
    init = nn.with_logical_partitioning(
      nn.initializers.normal(math.prod(x.shape[2:]) ** -0.5), (Axis.HEADS, Axis.HEAD_DIM)
    )
    token: Any = self.param(name, init, x.shape[2:])
    last = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, *x.shape[2:]))
    return jnp.concatenate([x, last], axis=1)
