"""Many tokens to one feature."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.layers.attention import Attention
from vljax.layers.mlp import Mlp
from vljax.layers.norm import LayerNorm
from vljax.parallel import Axis


class AttentionPool(nn.Module):
  """A learned query attends to all tokens: y = attention(query, x), then y + mlp(norm(y)).

  Multi-head attention pooling (Set Transformer, arXiv 1810.00825, section 3.2, in the form of SigLIP's image tower).

  Attributes:
    mlp: hidden width of the feed-forward half.
  """

  heads: int
  mlp: int
  activation: str = "gelu"
  epsilon: float = 1e-5
  dtype: Any = "float32"
  attention: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b d"]:
    b, _, d = x.shape
    init = nn.with_logical_partitioning(nn.initializers.xavier_uniform(), (None, Axis.EMBED))
    query: Any = self.param("query", init, (1, d))
    query = jnp.broadcast_to(query.astype(self.dtype), (b, 1, d))
    y = Attention(self.heads, dtype=self.dtype, implementation=self.attention, name="attention")(query, x)
    z = LayerNorm(self.epsilon, dtype=self.dtype, name="norm")(y)
    return (y + Mlp(self.mlp, self.activation, dtype=self.dtype, name="mlp")(z))[:, 0]
