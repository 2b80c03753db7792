"""CLIP's text tower: a GPT-2-like transformer whose feature is the output at the end-of-text token."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vljax import config, parallel
from vljax.layers.block import Block, Stack
from vljax.layers.embed import TokenEmbed, positions
from vljax.layers.norm import LayerNorm
from vljax.models import fitting, variants
from vljax.parallel import Axis
from vljax.types import Params

POOLS = dict.fromkeys(("argmax", "eos", "last"))


class TextTransformer(nn.Module):
  """Tokens, positions, `depth` pre-norm blocks, one feature (arXiv 2103.00020, section 2.4).

  Attributes:
    mlp: hidden width of the feed-forward halves; None means 4 * width.
    pool: where the feature is read: at the largest id (`argmax`: CLIP's end-of-text), at the first `eos_id` (`eos`),
      or at the last position.
    causal: each position sees itself and what came before; False lets all see all, padding included.
    epsilon: of the norms.
    dtype, remat, unroll, held, attention: as of `vit.ViT`.
  """

  vocab: int
  length: int
  width: int
  depth: int
  heads: int
  mlp: int | None = None
  activation: str = "gelu"
  pool: str = "argmax"
  eos_id: int | None = None
  causal: bool = True
  dropout: float = 0.0
  epsilon: float = 1e-5
  dtype: Any = "float32"
  remat: str = "none"
  unroll: int | None = None
  held: int = 0
  attention: str | None = None

  def setup(self):
    config.choose("pool of TextTransformer", self.pool, POOLS)
    block = Block(
      self.heads, self.mlp or 4 * self.width, self.activation, self.dropout, (2 * self.depth) ** -0.5, self.epsilon,
      self.dtype, self.attention, parent=None,
    )  # fmt: skip
    self.token = TokenEmbed(self.vocab, self.width, dtype=self.dtype)
    self.pos = self.param("pos", positions(0.01), (self.length, self.width))
    self.blocks = Stack(block, self.depth, self.remat, self.unroll, self.held)
    self.norm_post = LayerNorm(self.epsilon, self.dtype)

  def __call__(self, tokens: Int[Array, "b t"], *, train: bool = False) -> Float[Array, "b d"]:
    """The feature of each text."""
    x = self.tokens(tokens, train=train)
    at = self.pooled(tokens)
    return self.norm_post(jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0])

  def tokens(self, tokens: Int[Array, "b t"], *, train: bool = False) -> Float[Array, "b t d"]:
    """The outputs of the last block, not yet normalized.

    Raises:
      ValueError: more tokens than the model has positions.
    """
    t = tokens.shape[1]
    if t > self.length:
      raise ValueError(f"texts of {t} tokens; the model has positions for {self.length}")
    x = self.token(tokens)
    x = parallel.constrain(x + self.pos[:t].astype(x.dtype), Axis.BATCH, Axis.POSITION, Axis.EMBED)
    return self.blocks(x, train=train, causal=self.causal)

  def pooled(self, tokens: Int[Array, "b t"]) -> Int[Array, "b"]:
    """The position of each text's feature.

    Raises:
      ValueError: pool is `eos` and eos_id is None.
    """
    if self.pool == "last":
      return jnp.full(tokens.shape[:1], tokens.shape[1] - 1)
    if self.pool == "argmax":
      return tokens.argmax(-1)
    if self.eos_id is None:
      raise ValueError("pool = 'eos' of TextTransformer needs eos_id; found None")
    return (tokens == self.eos_id).argmax(-1)

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Int[Array, "b t"]]:
    """Zeros of the shapes that the model takes, for `init`."""
    return (jnp.zeros((batch, self.length), jnp.int32),)


def _variant(width: int, depth: int, heads: int, vocab: int = 49_408, length: int = 77, **more: Any) -> dict[str, Any]:
  return {"vocab": vocab, "length": length, "width": width, "depth": depth, "heads": heads, **more}


SIGLIP = dict(pool="last", causal=False, activation="gelu_tanh", epsilon=1e-6)


VARIANTS: dict[str, dict[str, Any]] = {
  "test": _variant(32, 2, 2, 64, 8),
  "small": _variant(128, 4, 2, 4_096, 24),
  "B": _variant(512, 12, 8),
  "x4": _variant(640, 12, 10),
  "L": _variant(768, 12, 12),
  "x64": _variant(1024, 12, 16),
  "H": _variant(1024, 24, 16),
  "bigG": _variant(1280, 32, 20),
  "SigLIP-B": _variant(768, 12, 12, 32_000, 64, **SIGLIP),
  "SigLIP-L": _variant(1024, 24, 16, 32_000, 64, **SIGLIP),
  "SigLIP-So400m": _variant(1152, 27, 16, 32_000, 16, mlp=4304, **SIGLIP),
}


def build(variant: str | None = None, **overrides: Any) -> TextTransformer:
  """The text tower of a variant, upper and lower case alike, with some fields overridden.

  Raises:
    ValueError: an unknown variant or field, with the nearest name.
  """
  return variants.make(TextTransformer, variant, VARIANTS, overrides)


def adapt_params(params: Params, model: TextTransformer) -> Params:
  """Parameters of a longer text tower, for this one: a causal model's first positions are cut out; the rest must fit.

  Raises:
    ValueError: a name or another shape differs; the model is longer than its parameters.
  """
  if "pos" in params and params["pos"].shape[0] > model.length:
    params = {**params, "pos": params["pos"][: model.length]}
  return fitting.check(params, model)
