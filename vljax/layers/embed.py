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

  def setup(self):
    init = nn.with_logical_partitioning(nn.initializers.normal(self.std), (Axis.VOCAB, Axis.EMBED))
    self.embedding: Any = self.param("embedding", init, (self.vocab, self.width))

  def __call__(self, tokens: Int[Array, "*b t"]) -> Float[Array, "*b t d"]:
    return jnp.take(self.embedding, tokens, axis=0, mode="clip").astype(self.dtype)

  def attend(self, x: Float[Array, "*b t d"]) -> Float[Array, "*b t v"]:
    """The product of x with every row: the logits of a model whose head is its embedding."""
    return jnp.einsum("...d,vd->...v", x.astype(self.dtype), self.embedding.astype(self.dtype))


def positions(std: float) -> nn.initializers.Initializer:
  """The initializer of learned positions [n, width]."""
  return nn.with_logical_partitioning(nn.initializers.normal(std), (Axis.POSITION, Axis.EMBED))
