"""Language models: one decoder whose switches make it a Chinchilla, OPT, GPT-NeoX, LLaMA, MPT or GPT-2."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljax import config, parallel
from vljax.layers import position
from vljax.layers.decoder import NORMS, DecoderBlock, DecoderStack, Insert, Places
from vljax.layers.embed import TokenEmbed, positions
from vljax.layers.linear import Linear
from vljax.models import fitting, variants
from vljax.ops.attention import Cache
from vljax.parallel import Axis
from vljax.types import Params

POSITIONS = dict.fromkeys(("learned", "rotary", "alibi", "relative", "none"))

Output = tuple[Float[Array, "b t d"], Cache | None]


class Decoder(nn.Module):
  """Tokens, `depth` blocks that look back, logits of the next token.

  Attributes:
    length: tokens that it was made for; only learned positions end there.
    kv_heads, head_dim: as of `layers.attention.Attention`.
    mlp: hidden width of the feed-forward halves; None means 4 * width.
    gated: SwiGLU and its like, see `layers.mlp.Mlp`.
    norm, residual: keys of `layers.decoder.NORMS` and `RESIDUALS`; a post-norm model has no norm at the end.
    positions: learned; rotary (arXiv 2104.09864); alibi (2108.12409); relative (Transformer-XL, 1901.02860); none.
    position_offset: rows of the learned positions before that of position 0 (OPT: 2).
    rotary_fraction, rotary_base, interleaved: share of each head that turns, see `layers.position`.
    tied: the head is the embedding's transpose; else it has a kernel of its own.
    embed_width: width of the embedding and of the head's input, with linear maps in between (OPT-350m); None: width.
    extra: further tokens with ids from `vocab` on, whose rows are parameters of their own, `extra_in` and
      `extra_out`, so that they can be trained where all else is frozen (IDEFICS).
    qk_norm: see `layers.decoder.DecoderAttention`.
    epsilon: of the norms.
    dtype, remat, unroll, held: as of `vit.ViT`.
    attention: implementation of `ops.attention` without a cache; with one, whose steps some refuse, it is picked.
  """

  vocab: int
  length: int
  width: int
  depth: int
  heads: int
  kv_heads: int | None = None
  head_dim: int | None = None
  mlp: int | None = None
  norm: str = "layer"
  residual: str = "pre"
  positions: str = "learned"
  position_offset: int = 0
  rotary_fraction: float = 1.0
  rotary_base: float = 10_000.0
  interleaved: bool = False
  activation: str = "gelu"
  gated: bool = False
  attention_bias: bool = True
  mlp_bias: bool = True
  qk_norm: bool = False
  tied: bool = True
  embed_width: int | None = None
  extra: int = 0
  dropout: float = 0.0
  epsilon: float = 1e-5
  dtype: Any = "float32"
  remat: str = "none"
  unroll: int | None = None
  held: int = 0
  attention: str | None = None

  def setup(self):
    config.choose("positions of Decoder", self.positions, POSITIONS)
    block = DecoderBlock(
      heads=self.heads, mlp=self.mlp or 4 * self.width, kv_heads=self.kv_heads, head_dim=self.head_dim,
      norm=self.norm, residual=self.residual, activation=self.activation, gated=self.gated,
      attention_bias=self.attention_bias, mlp_bias=self.mlp_bias, interleaved=self.interleaved, qk_norm=self.qk_norm,
      relative=self.positions == "relative", dropout=self.dropout, residual_scale=(2 * max(1, self.depth)) ** -0.5,
      epsilon=self.epsilon, dtype=self.dtype, attention=self.attention, parent=None,
    )  # fmt: skip
    outer, init = self.embed_width or self.width, nn.initializers.normal(0.02)
    self.token = TokenEmbed(self.vocab, outer, dtype=self.dtype)
    if self.positions == "learned":
      self.pos = self.param("pos", positions(0.02), (self.length + self.position_offset, self.width))
    if outer != self.width:
      self.embed_in = Linear((self.width,), (None, Axis.EMBED), init, use_bias=False, dtype=self.dtype)
      self.embed_out = Linear((outer,), (Axis.EMBED, None), init, use_bias=False, dtype=self.dtype)
    self.blocks = DecoderStack(block, self.depth, self.remat, self.unroll, self.held)
    if self.residual != "post":
      self.norm_post = config.choose("norm of a decoder", self.norm, NORMS)(epsilon=self.epsilon, dtype=self.dtype)
    if not self.tied:
      self.head = Linear((self.vocab,), (Axis.EMBED, Axis.VOCAB), init, use_bias=False, dtype=self.dtype)
    if self.extra:
      self.extra_in = TokenEmbed(self.extra, outer, dtype=self.dtype)
      self.extra_out = Linear((self.extra,), (Axis.EMBED, None), init, use_bias=False, dtype=self.dtype)
    self.drop = nn.Dropout(self.dropout)

  def __call__(
    self,
    tokens: Int[Array, "b t"],
    *,
    positions: Int[Array, "b t"] | None = None,
    segments: Int[Array, "b t"] | None = None,
    key_padding: Bool[Array, "b t"] | None = None,
    cache: Cache | None = None,
    insert: Insert | None = None,
    train: bool = False,
  ) -> Float[Array, "b t v"] | tuple[Float[Array, "b t v"], Cache]:
    """The logits of the token after each; with a cache, (logits, the cache with these tokens)."""
    x, new = self.run(
      self.embed(tokens), positions=positions, segments=segments, key_padding=key_padding, cache=cache, insert=insert,
      train=train,
    )  # fmt: skip
    logits = self.logits(x)
    return logits if cache is None else (logits, new)

  def embed(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
    """The rows of tokens; `run` adds learned positions to them."""
    x = self.token(tokens)
    if self.extra:
      x = jnp.where((tokens >= self.vocab)[..., None], self.extra_in(jnp.maximum(tokens - self.vocab, 0)), x)
    return x if self.embed_width in (None, self.width) else self.embed_in(x)

  def run(
    self,
    x: Float[Array, "b t d"],
    *,
    positions: Int[Array, "b t"] | None = None,
    segments: Int[Array, "b t"] | None = None,
    key_padding: Bool[Array, "b t"] | None = None,
    cache: Cache | None = None,
    insert: Insert | None = None,
    train: bool = False,
  ) -> Output:
    """All blocks over embeddings: (what the head takes, the cache with these tokens).

    Args:
      positions: None counts the real tokens, from zero in each segment, or from the cache's length on. ALiBi and
        relative positions do not take them: they count places.
      segments: ids of packed texts, each a run of places; nobody sees another's.
      key_padding: which tokens are real. With a cache those of an example must stand in a row.
      insert: what runs before some blocks.

    Raises:
      ValueError: more tokens than there are learned positions or room in the cache, or segments with a cache. With
        a cache, padding and what was read before do not count, since shapes do not tell them: the caller compares the
        real tokens of a text with `positions_end`, as `generate.Writer` does.
    """
    if cache is not None and segments is not None:
      raise ValueError("segments with a cache; legal: a cache holds one text for each example")
    real = jnp.ones(x.shape[:2], bool) if key_padding is None else key_padding
    if positions is None:
      positions = count(real, segments) + (0 if cache is None else cache.length[:, None])
    if self.positions == "learned":
      if cache is None or key_padding is None:
        self._fits(x.shape[1])
      x = x + jnp.take(self.pos, positions + self.position_offset, axis=0, mode="clip").astype(x.dtype)
    x = self.drop(x, deterministic=not train)
    x = parallel.constrain(x, Axis.BATCH, Axis.POSITION, Axis.EMBED)
    if cache is None:
      masks = dict(causal=True, segments=segments, key_padding=key_padding)
    else:
      masks = dict(causal=True, offset=cache.offset(real))
    x, cache = self.blocks(x, self._places(x, positions, masks, cache, real), cache, insert, train=train)
    return x, None if cache is None else cache.grown(real)

  def logits(self, x: Float[Array, "*b t d"]) -> Float[Array, "*b t v"]:
    """What `run` gave to float32 logits: the last norm, and the head."""
    if self.residual != "post":
      x = self.norm_post(x)
    if self.embed_width not in (None, self.width):
      x = self.embed_out(x)
    y = self.token.attend(x) if self.tied else self.head(x)
    y = jnp.concatenate([y, self.extra_out(x)], axis=-1) if self.extra else y
    return y.astype(jnp.float32)

  @property
  def positions_end(self) -> int | None:
    """The most tokens of a text; None where positions have no end."""
    return self.length if self.positions == "learned" else None

  @nn.nowrap
  def cache(self, batch: int, room: int, dtype: jax.typing.DTypeLike | None = None) -> Cache:
    """An empty cache with room for so many tokens of each example; dtype: the model's by default."""
    dim = self.head_dim or self.width // self.heads
    return Cache.empty(self.depth, batch, room, self.kv_heads or self.heads, dim, dtype or self.dtype)

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Int[Array, "b t"]]:
    """Zeros that the model takes, for `init`."""
    return (jnp.zeros((batch, min(self.length, 8)), jnp.int32),)

  def _fits(self, t: int) -> None:
    if t > self.length:
      raise ValueError(f"texts of {t} tokens; the model has positions for {self.length}")

  def _turned(self) -> int:
    dim = self.head_dim or self.width // self.heads
    turned = int(dim * self.rotary_fraction)
    if turned % 2:
      raise ValueError(f"rotary_fraction = {self.rotary_fraction} of heads of {dim} turns {turned}; legal: pairs")
    return turned

  def _places(
    self, x: Float[Array, "b t d"], at: Int[Array, "b t"], masks: dict[str, Any], cache: Cache | None, real: Array
  ) -> Places:
    keys = x.shape[1] if cache is None else cache.room
    rotary = bias = sinusoids = None
    if self.positions == "rotary":
      rotary = position.rotary_table(at, self._turned(), self.rotary_base)
    if self.positions == "alibi":
      last = keys - 1 if cache is None else cache.length + real.sum(1) - 1
      bias = position.alibi(self.heads, keys, last)
    if self.positions == "relative":
      sinusoids = position.sinusoids(jnp.arange(keys), self.width)
    return Places(masks, rotary, bias, sinusoids, None if cache is None else cache.places(real))


def count(real: Bool[Array, "b t"], segments: Int[Array, "b t"] | None = None) -> Int[Array, "b t"]:
  """The number of real tokens before each, in its segment; a segment is a run of equal ids."""
  before = jnp.cumsum(real, axis=1, dtype=jnp.int32) - real
  if segments is None:
    return before
  starts = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)))
  return before - jax.lax.cummax(jnp.where(starts, before, 0), axis=1)


def _variant(vocab: int, length: int, width: int, depth: int, heads: int, **more: Any) -> dict[str, Any]:
  return {"vocab": vocab, "length": length, "width": width, "depth": depth, "heads": heads, **more}


NO_BIASES = dict(attention_bias=False, mlp_bias=False)
CHINCHILLA = dict(norm="rms", positions="relative", **NO_BIASES)
OPT = dict(activation="relu", position_offset=2)
PYTHIA = dict(residual="parallel", positions="rotary", rotary_fraction=0.25, tied=False)
LLAMA = dict(norm="rms", positions="rotary", activation="silu", gated=True, **NO_BIASES)
MPT = dict(norm="layer_without_bias", positions="alibi", **NO_BIASES)
GPT2 = dict(activation="gelu_tanh")


VARIANTS: dict[str, dict[str, Any]] = {
  "test": _variant(64, 16, 32, 4, 4, kv_heads=2, mlp=48, **LLAMA),
  "chinchilla-1.4b": _variant(32_000, 2048, 2048, 24, 16, **CHINCHILLA),
  "chinchilla-7b": _variant(32_000, 2048, 4096, 32, 32, **CHINCHILLA),
  "chinchilla-9b-table4": _variant(32_000, 2048, 4096, 40, 32, **CHINCHILLA),
  "chinchilla-70b": _variant(32_000, 2048, 8192, 80, 64, **CHINCHILLA),
  "opt-125m": _variant(50_272, 2048, 768, 12, 12, **OPT),
  "opt-350m": _variant(50_272, 2048, 1024, 24, 16, embed_width=512, **OPT | {"residual": "post"}),
  "opt-1.3b": _variant(50_272, 2048, 2048, 24, 32, **OPT),
  "pythia-70m": _variant(50_304, 2048, 512, 6, 8, **PYTHIA),
  "pythia-160m": _variant(50_304, 2048, 768, 12, 12, **PYTHIA),
  "pythia-410m": _variant(50_304, 2048, 1024, 24, 16, **PYTHIA),
  "pythia-1b": _variant(50_304, 2048, 2048, 16, 8, **PYTHIA),
  "pythia-1.4b": _variant(50_304, 2048, 2048, 24, 16, **PYTHIA),
  "pythia-2.8b": _variant(50_304, 2048, 2560, 32, 32, **PYTHIA),
  "pythia-6.9b": _variant(50_432, 2048, 4096, 32, 32, **PYTHIA),
  "pythia-12b": _variant(50_688, 2048, 5120, 36, 40, **PYTHIA),
  "gpt2": _variant(50_257, 1024, 768, 12, 12, **GPT2),
  "smollm2-135m": _variant(49_152, 8192, 576, 30, 9, kv_heads=3, mlp=1536, rotary_base=100_000.0, **LLAMA),
  "smollm2-360m": _variant(49_152, 8192, 960, 32, 15, kv_heads=5, mlp=2560, rotary_base=100_000.0, **LLAMA),
  "smollm2-1.7b": _variant(49_152, 8192, 2048, 24, 32, mlp=8192, rotary_base=130_000.0, **LLAMA),
  "llama-7b": _variant(32_000, 2048, 4096, 32, 32, mlp=11_008, tied=False, epsilon=1e-6, **LLAMA),
  "mpt-1b": _variant(50_368, 2048, 2048, 24, 16, qk_norm=True, **MPT),
  "mpt-7b": _variant(50_432, 2048, 4096, 32, 32, **MPT),
}
"""The Chinchillas are Flamingo's (arXiv 2204.14198, tables 4 and 5): 7.1 billion parameters are 32 layers, which
table 5 counts, while table 4 says 40. Their linear maps have no biases and their embedding is tied, which the paper
does not say but its counts imply."""


def build(variant: str | None = None, **overrides: Any) -> Decoder:
  """The decoder of a variant, upper and lower case alike, with some fields overridden.

  Raises:
    ValueError: an unknown variant or field, with the nearest name.
  """
  return variants.make(Decoder, variant, VARIANTS, overrides)


def adapt_params(params: Params, model: Decoder) -> Params:
  """Parameters of a longer decoder, for this one: its first learned positions are kept; the rest must fit.

  Raises:
    ValueError: a name or another shape differs; the model is longer than its parameters.
  """
  rows = model.length + model.position_offset
  if "pos" in params and params["pos"].shape[0] > rows:
    params = {**params, "pos": params["pos"][:rows]}
  return fitting.check(params, model)
