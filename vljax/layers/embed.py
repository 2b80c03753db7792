"""Embeddings of tokens and of positions."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vljax.parallel import Axis


class TokenEmbed(nn.Module):
  """Row `token` of a table [vocab, width]."""

  vocab: int
  width: int
  std: float = 0.02
  dtype: Any = "float32"

  @nn.compact
  def __call__(self, tokens: Int[Array, "*b t"]) -> Float[Array, "*b t d"]:
    init = nn.with_logical_partitioning(nn.initializers.normal(self.std), (Axis.VOCAB, Axis.EMBED))
    table = self.param("embedding", init, (self.vocab, self.width))
    return jnp.take(table, tokens, axis=0, mode="clip").astype(self.dtype)


def positions(std: float) -> nn.initializers.Initializer:
  """The initializer of learned positions [n, width]."""
  return nn.with_logical_partitioning(nn.initializers.normal(std), (Axis.POSITION, Axis.EMBED))
