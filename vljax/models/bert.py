"""BERT's encoder: a bidirectional transformer with post-norm blocks (Devlin et al. 2018, arXiv 1810.04805)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljax import config, parallel
from vljax.layers.block import PostNormBlock, Stack
from vljax.layers.embed import TokenEmbed, positions
from vljax.layers.linear import Linear
from vljax.layers.norm import LayerNorm
from vljax.models import fitting, variants
from vljax.parallel import Axis
from vljax.types import Params

POOLS = dict.fromkeys(("cls", "mean", "pooler"))


class Bert(nn.Module):
  """norm(token + position + segment), `depth` post-norm blocks, one feature; nobody sees padding.

  Models that put pictures into the same stream call `embed` for their words and `encode` for everything. The paper
  also drops attention weights, and draws every kernel with deviation 0.02; here dropout follows embeddings and both
  halves of a block, and kernels start as in `layers.block`.

  Attributes:
    segments: kinds of sentences (token types) that have an embedding; 0: none.
    mlp: hidden width of the feed-forward halves; None means 4 * width.
    pool: the feature is the output at the first token (`cls`), the mean over the real tokens (`mean`, Sentence-BERT,
      arXiv 1908.10084), or tanh of a linear map of the first output (`pooler`, that of next-sentence prediction).
    pad_id: the token that is padding.
    epsilon: of the norms.
    dtype, remat, unroll, held, attention: as of `vit.ViT`.
  """

  vocab: int
  length: int
  width: int
  depth: int
  heads: int
  mlp: int | None = None
  segments: int = 2
  activation: str = "gelu"
  pool: str = "cls"
  pad_id: int = 0
  dropout: float = 0.0
  epsilon: float = 1e-12
  dtype: Any = "float32"
  remat: str = "none"
  unroll: int | None = None
  held: int = 0
  attention: str | None = None

  eos_id = None

  def setup(self):
    config.choose("pool of Bert", self.pool, POOLS)
    block = PostNormBlock(
      self.heads, self.mlp or 4 * self.width, self.activation, self.dropout, 1.0, self.epsilon, self.dtype,
      self.attention, parent=None,
    )  # fmt: skip
    self.token = TokenEmbed(self.vocab, self.width, dtype=self.dtype)
    self.pos = self.param("pos", positions(0.02), (self.length, self.width))
    if self.segments:
      self.segment = TokenEmbed(self.segments, self.width, dtype=self.dtype)
    self.norm_pre = LayerNorm(self.epsilon, self.dtype)
    self.drop = nn.Dropout(self.dropout)
    self.blocks = Stack(block, self.depth, self.remat, self.unroll, self.held)
    if self.pool == "pooler":
      init = nn.initializers.normal(0.02)
      self.pooler = Linear((self.width,), (Axis.EMBED, None), init, dtype=self.dtype)

  def __call__(
    self,
    tokens: Int[Array, "b t"],
    segments: Int[Array, "b t"] | None = None,
    mask: Bool[Array, "b t"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b d"]:
    """The feature of each text.

    Args:
      segments: which sentence each token is of; None: all of the first.
      mask: which tokens are real; None: those that are not `pad_id`.
    """
    mask = self.real(tokens) if mask is None else mask
    return self.pooled(self.encode(self.embed(tokens, segments, train=train), mask, train=train), mask)

  def tokens(
    self,
    tokens: Int[Array, "b t"],
    segments: Int[Array, "b t"] | None = None,
    mask: Bool[Array, "b t"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "b t d"]:
    """The outputs of the last block; those of padding mean nothing. See `__call__`."""
    mask = self.real(tokens) if mask is None else mask
    return self.encode(self.embed(tokens, segments, train=train), mask, train=train)

  def real(self, tokens: Int[Array, "b t"]) -> Bool[Array, "b t"]:
    """Which tokens are no padding."""
    return tokens != self.pad_id

  def embed(
    self, tokens: Int[Array, "b t"], segments: Int[Array, "b t"] | None = None, *, train: bool = False
  ) -> Float[Array, "b t d"]:
    """What goes into the first block.

    Raises:
      ValueError: more tokens than the model has positions, or segments for a model without them.
    """
    t = tokens.shape[1]
    if t > self.length:
      raise ValueError(f"texts of {t} tokens; the model has positions for {self.length}")
    if segments is not None and not self.segments:
      raise ValueError("segments for a model without segment embeddings; legal: None, or Bert(segments=2)")
    x = self.token(tokens)
    x = x + self.pos[:t].astype(x.dtype)
    if self.segments:
      x = x + self.segment(jnp.zeros_like(tokens) if segments is None else segments)
    return self.drop(self.norm_pre(x), deterministic=not train)

  def encode(
    self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"] | None = None, *, train: bool = False
  ) -> Float[Array, "b t d"]:
    """All blocks over embeddings of any kind; `mask` says which of them can be seen."""
    x = parallel.constrain(x, Axis.BATCH, Axis.POSITION, Axis.EMBED)
    return self.blocks(x, train=train, key_padding=mask)

  def pooled(self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b d"]:
    """The feature of the last block's outputs; a text without real tokens has the mean 0."""
    if self.pool == "cls":
      return x[:, 0]
    if self.pool == "pooler":
      return jnp.tanh(self.pooler(x[:, 0]))
    weights = mask[..., None].astype(jnp.float32)
    mean = (x.astype(jnp.float32) * weights).sum(1) / jnp.maximum(weights.sum(1), 1)
    return mean.astype(x.dtype)

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Int[Array, "b t"]]:
    """Ones of the shapes that the model takes, for `init`."""
    return (jnp.full((batch, self.length), self.pad_id + 1, jnp.int32),)


def _variant(width: int, depth: int, heads: int, **more: Any) -> dict[str, Any]:
  return {"vocab": 30_522, "length": 512, "width": width, "depth": depth, "heads": heads, **more}


VARIANTS: dict[str, dict[str, Any]] = {
  "test": _variant(32, 2, 2, vocab=64, length=8),
  "mini": _variant(256, 4, 4),
  "base": _variant(768, 12, 12),
  "large": _variant(1024, 24, 16),
  "minilm-l6": _variant(384, 6, 12, pool="mean"),
}
"""The uncased English models: `mini` of arXiv 1908.08962, `minilm-l6` the six-layer student of arXiv 2002.10957."""


def build(variant: str | None = None, **overrides: Any) -> Bert:
  """The encoder of a variant, upper and lower case alike, with some fields overridden.

  Raises:
    ValueError: an unknown variant or field, with the nearest name.
  """
  return variants.make(Bert, variant, VARIANTS, overrides)


def adapt_params(params: Params, model: Bert) -> Params:
  """Parameters of a longer encoder, for this one: its first positions are kept; the rest must fit.

  Raises:
    ValueError: a name or another shape differs; the model is longer than its parameters.
  """
  if "pos" in params and params["pos"].shape[0] > model.length:
    params = {**params, "pos": params["pos"][: model.length]}
  return fitting.check(params, model)
