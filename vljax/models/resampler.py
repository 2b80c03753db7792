"""The Perceiver Resampler: any number of frames and positions to a few tokens (Flamingo, arXiv 2204.14198)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vljax import config, parallel
from vljax.layers.block import Block, Layers, Stack
from vljax.layers.cross_attention import FAN_IN, CrossAttention
from vljax.layers.embed import positions
from vljax.layers.linear import Linear
from vljax.layers.mlp import Mlp
from vljax.layers.norm import LayerNorm
from vljax.models import variants
from vljax.ops.attention import reference
from vljax.ops.attention.masks import Masks
from vljax.ops.resampler import resample
from vljax.parallel import Axis

KINDS = dict.fromkeys(("perceiver", "transformer", "mlp"))


class ResamplerBlock(nn.Module):
  """x + attention(norm_latents(x), [norm_media(media); norm_latents(x)]), then x + mlp(norm_2(x)), without biases.

  Attributes:
    mlp: hidden width of the feed-forward half.
    qk_norm: of `layers.cross_attention.CrossAttention`.
    attention: implementation of `ops.resampler`; None picks.
  """

  heads: int
  head_dim: int
  mlp: int
  activation: str = "squared_relu"
  qk_norm: str = "none"
  residual_scale: float = 1.0
  epsilon: float = 1e-5
  dtype: Any = "float32"
  attention: str | None = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b l d"],
    media: Float[Array, "b s d"],
    key_padding: Bool[Array, "b s"] | None = None,
    maps: bool = False,
  ) -> tuple[Float[Array, "b l d"], Float[Array, "b k l n"] | None]:
    """The latents, and, if `maps`, the weights that they gave to media and latents."""
    norm = lambda name: LayerNorm(self.epsilon, self.dtype, name=name)
    half = dict(residual_scale=self.residual_scale, dtype=self.dtype)
    attend = CrossAttention(
      x.shape[-1], self.heads, self.head_dim, self.qk_norm, epsilon=self.epsilon, name="attention", **half
    )
    own = norm("norm_latents")(x)
    query, pairs = attend.queries(own), (attend.keys_values(norm("norm_media")(media)), attend.keys_values(own))
    weights = None
    if maps:
      real = None if key_padding is None else jnp.pad(key_padding, ((0, 0), (0, x.shape[1])), constant_values=True)
      key = jnp.concatenate([key for key, _ in pairs], axis=1)
      weights = reference.weights(query, key, None, Masks(key_padding=real), self.head_dim**-0.5)
    y = resample(query, *pairs, key_padding=key_padding, implementation=self.attention)
    x += attend.merge(y)
    x += Mlp(self.mlp, self.activation, use_bias=False, name="mlp", **half)(norm("norm_2")(x))
    return parallel.constrain(x, Axis.BATCH, None, Axis.EMBED), weights


class ResamplerBlocks(Layers):
  """ResamplerBlocks in a row, run by `lax.scan`; all of them see the same media."""

  @nn.compact
  def __call__(
    self, x: Float[Array, "b l d"], media: Float[Array, "b s d"], *, train: bool = False, **options: Any
  ) -> tuple[Float[Array, "b l d"], Float[Array, "depth b k l n"] | None]:
    """Runs all blocks."""
    block, params, _ = self._open(train, x, media)
    body = lambda x, params: block.apply({"params": params}, x, media, **options)
    return jax.lax.scan(self._saving(body), x, params, unroll=self._unroll(params))


class PointwiseBlock(nn.Module):
  """x + mlp(norm(x)), each token by itself."""

  mlp: int
  activation: str = "squared_relu"
  residual_scale: float = 1.0
  epsilon: float = 1e-5
  dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"], *, train: bool = False) -> Float[Array, "b n d"]:
    del train
    y = LayerNorm(self.epsilon, self.dtype, name="norm")(x)
    half = dict(residual_scale=self.residual_scale, dtype=self.dtype, use_bias=False)
    return parallel.constrain(x + Mlp(self.mlp, self.activation, name="mlp", **half)(y), Axis.BATCH, None, Axis.EMBED)


class Resampler(nn.Module):
  """norm(blocks(latents, media + time)): each medium, a picture or a clip, becomes `latents` tokens.

  Appendix A.1.1: the positions of all frames are one sequence, and nothing but the encoder's own features says where
  a position lies. The paper's pseudo-code has no norms; as in all public versions media and latents are normed before
  each attention, the latents before each feed-forward half, and the output. Heads are 128 wide in Flamingo: with the
  96 that width / heads gives, table 5's 194 million parameters would be 175.

  Attributes:
    media_width: of the encoder's features; where it is not `width`, a linear map comes first.
    width: of the tokens.
    head_dim: of the heads.
    latents: tokens of a medium.
    frames: learned time embeddings, interpolated linearly to any other number of frames; 0: none.
    mlp: hidden width of the feed-forward halves; None means 4 * width.
    kind: `perceiver`, or what table 3 of the paper compares it with: `transformer`, self-attention over all features,
      and `mlp`, each feature by itself. Those give a token for each feature; the paper says no more about them.
    qk_norm, attention: of ResamplerBlock.
    dtype, remat, unroll: as of `vit.ViT`.
  """

  media_width: int
  width: int
  depth: int
  heads: int
  head_dim: int
  latents: int = 64
  frames: int = 8
  mlp: int | None = None
  activation: str = "squared_relu"
  kind: str = "perceiver"
  qk_norm: str = "none"
  epsilon: float = 1e-5
  dtype: Any = "float32"
  remat: str = "none"
  unroll: int | None = None
  attention: str | None = None

  def setup(self):
    config.choose("kind of Resampler", self.kind, KINDS)
    if self.media_width != self.width:
      self.project = Linear((self.width,), (None, Axis.EMBED), FAN_IN(1.0), use_bias=False, dtype=self.dtype)
    if self.frames:
      self.time = self.param("time", positions(0.02), (self.frames, self.width))
    if self.kind == "perceiver":
      init = nn.with_logical_partitioning(nn.initializers.normal(0.02), (None, Axis.EMBED))
      self.start: Any = self.param("latents", init, (self.latents, self.width))
    self.blocks = self._stack()
    self.norm_post = LayerNorm(self.epsilon, self.dtype)

  def _stack(self) -> nn.Module:
    stack = dict(length=self.depth, remat=self.remat, unroll=self.unroll)
    every = dict(
      mlp=self.mlp or 4 * self.width, activation=self.activation, residual_scale=(2 * self.depth) ** -0.5,
      epsilon=self.epsilon, dtype=self.dtype, parent=None,
    )  # fmt: skip
    if self.kind == "mlp":
      return Stack(PointwiseBlock(**every), **stack)
    every |= dict(heads=self.heads, attention=self.attention)
    if self.kind == "transformer":
      return Stack(Block(**every), **stack)
    return ResamplerBlocks(ResamplerBlock(head_dim=self.head_dim, qk_norm=self.qk_norm, **every), **stack)

  def __call__(
    self, media: Float[Array, "b n f s c"], frames: Bool[Array, "b n f"] | None = None
  ) -> Float[Array, "b n l d"]:
    """The tokens of each medium: of f frames, each with s features of the encoder.

    Args:
      frames: which frames are real; those that are not come last and change nothing. None: all are.

    Raises:
      ValueError: features of another width, or `frames` for a kind that gives tokens of all of them.
    """
    return self._resampled(media, frames)[0]

  def attention_map(
    self, media: Float[Array, "b n f s c"], frames: Bool[Array, "b n f"] | None = None
  ) -> Float[Array, "b n l f s"]:
    """Where each token of a medium looks: the last layer's weights of its features, the mean of all heads.

    They add up to 1, or are 0 where no frame is real.

    Raises:
      ValueError: a kind without latents.
    """
    if self.kind != "perceiver":
      raise ValueError(f"a resampler of kind {self.kind!r} has no latents that look somewhere; legal: 'perceiver'")
    (b, n, f, s), weights = media.shape[:4], self._resampled(media, frames, maps=True)[1]
    mean = weights[-1].mean(1)[..., : f * s]
    return (mean / jnp.maximum(mean.sum(-1, keepdims=True), 1e-30)).reshape(b, n, self.latents, f, s)

  def _resampled(
    self, media: Float[Array, "b n f s c"], frames: Bool[Array, "b n f"] | None, **options: Any
  ) -> tuple[Float[Array, "b n l d"], Any]:
    b, n, f, s, c = media.shape
    if c != self.media_width:
      raise ValueError(f"features of width {c}; the resampler takes {self.media_width}")
    if frames is not None and self.kind != "perceiver":
      raise ValueError(f"a resampler of kind {self.kind!r} gives tokens of all frames; legal: frames = None")
    x = self.project(media) if self.media_width != self.width else media.astype(self.dtype)
    if self.frames:
      x = x + self._times(f, frames)[..., None, :].astype(x.dtype)
    x = x.reshape(b * n, f * s, self.width)
    if self.kind != "perceiver":
      x, weights = self.blocks(x), None
    else:
      padding = None if frames is None else jnp.repeat(frames.reshape(b * n, f), s, axis=1)
      latents = jnp.broadcast_to(self.start.astype(x.dtype), (b * n, self.latents, self.width))
      x, weights = self.blocks(latents, x, key_padding=padding, **options)
    return self.norm_post(x).reshape(b, n, -1, self.width), weights

  def _times(self, count: int, frames: Bool[Array, "b n f"] | None) -> Float[Array, "*b f d"]:
    if frames is None:
      return interpolate(self.time, jnp.linspace(0.0, self.frames - 1.0, count) if count > 1 else jnp.zeros(1))
    steps = jnp.maximum(frames.sum(-1, keepdims=True) - 1, 1)
    return interpolate(self.time, jnp.minimum(jnp.arange(count) / steps, 1.0) * (self.frames - 1))

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Float[Array, "b n f s c"]]:
    """Zeros that the model takes, for `init`: one medium of one frame."""
    return (jnp.zeros((batch, 1, 1, 4, self.media_width)),)


def interpolate(table: Float[Array, "n d"], at: Float[Array, "*b f"]) -> Float[Array, "*b f d"]:
  """Rows of a table at places between 0 and n - 1, linear between two rows."""
  below = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, table.shape[0] - 1)
  above = jnp.minimum(below + 1, table.shape[0] - 1)
  share = (at - below)[..., None]
  return table[below] * (1 - share) + table[above] * share


def _flamingo(depth: int, **more: Any) -> dict[str, Any]:
  return {"media_width": 3072, "width": 1536, "depth": depth, "heads": 16, "head_dim": 128, **more}


VARIANTS: dict[str, dict[str, Any]] = {
  "test": dict(media_width=48, width=32, depth=2, heads=2, head_dim=8, latents=4),
  "flamingo": _flamingo(6),
  "small": _flamingo(3),
  "large": _flamingo(12),
  "mlp": _flamingo(6, kind="mlp", mlp=10_240),
  "transformer": _flamingo(6, kind="transformer", mlp=7168),
}
"""The paper's, and what its tables 3 and 10 put in its place. Of those it gives no sizes but totals: `small` and
`large` have the depths that come nearest to them, the others the hidden widths that leave the parameters as they
are."""


def build(variant: str | None = None, **overrides: Any) -> Resampler:
  """The resampler of a variant, upper and lower case alike, with some fields overridden.

  Raises:
    ValueError: an unknown variant or field, with the nearest name.
  """
  return variants.make(Resampler, variant, VARIANTS, overrides)
