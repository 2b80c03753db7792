"""The Vision Transformer as CLIP has it: a norm before the blocks, and the class token as the image's feature."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax import config, parallel
from vljax.layers.block import Block, Stack
from vljax.layers.embed import positions
from vljax.layers.norm import LayerNorm
from vljax.layers.patch import PatchEmbed, patch_dropout
from vljax.layers.pool import AttentionPool
from vljax.models import fitting, variants
from vljax.parallel import Axis
from vljax.types import Params

POOLS = {"cls": 1, "mean": 0, "map": 0}
"""Pooling to the number of class tokens."""


class ViT(nn.Module):
  """Patches, positions, `depth` pre-norm blocks, one feature (arXiv 2010.11929; arXiv 2103.00020, section 2.4).

  Released CLIP code draws the text tower's weights with deviations that follow width and depth and leaves the image
  tower's to torch; here both follow the text tower's rule, and biases start at zero.

  Attributes:
    mlp: hidden width of the feed-forward halves; None means 4 * width.
    pool: `cls`, a learned token's output; without such a token `mean`, the mean of the normalized patches, or `map`,
      what a learned query reads from them (SigLIP, arXiv 2303.15343).
    epsilon: of the norms.
    patch_dropout: share of patches dropped per example in training (arXiv 2212.00794); the class token stays.
    dtype: of the computation; parameters are float32.
    remat: what the backward pass computes again, a key of `layers.block.REMAT`.
    unroll: layers per iteration of the scan over blocks; None picks.
    held: the first layers without weight gradients.
    attention: implementation of `ops.attention`; None picks.
  """

  image_size: int
  patch: int
  width: int
  depth: int
  heads: int
  mlp: int | None = None
  activation: str = "gelu"
  pool: str = "cls"
  norm_pre: bool = True
  patch_bias: bool = False
  epsilon: float = 1e-5
  patch_dropout: float = 0.0
  dropout: float = 0.0
  dtype: Any = "float32"
  remat: str = "none"
  unroll: int | None = None
  held: int = 0
  attention: str | None = None

  def setup(self):
    self.extra = config.choose("pool of ViT", self.pool, POOLS)
    block = Block(
      self.heads, self.mlp or 4 * self.width, self.activation, self.dropout, (2 * self.depth) ** -0.5, self.epsilon,
      self.dtype, self.attention, parent=None,
    )  # fmt: skip
    self.patches = PatchEmbed(self.patch, self.width, self.patch_bias, self.dtype, name="patch")
    self.blocks = Stack(block, self.depth, self.remat, self.unroll, self.held)
    self.norm_first = LayerNorm(self.epsilon, self.dtype, name="norm_pre") if self.norm_pre else None
    self.norm_post = LayerNorm(self.epsilon, self.dtype)
    if self.pool == "map":
      self.read = AttentionPool(block.heads, block.mlp, self.activation, self.epsilon, self.dtype, name="pool")
    std = self.width**-0.5
    grid = self.image_size // self.patch
    self.pos = self.param("pos", positions(std), (grid * grid + self.extra, self.width))
    if self.extra:
      init = nn.with_logical_partitioning(nn.initializers.normal(std), (Axis.EMBED,))
      self.cls: Any = self.param("cls", init, (self.width,))

  def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b d"]:
    """The feature of each image; images are normalized, NHWC."""
    x = self.tokens(image, train=train)
    if self.pool == "cls":
      return self.norm_post(x[:, 0])
    x = self.norm_post(x)
    return self.read(x) if self.pool == "map" else x.mean(1)

  def tokens(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b n d"]:
    """The outputs of the last block, the class token first if there is one, not yet normalized.

    Raises:
      ValueError: the image has another size than the model.
    """
    if image.shape[1:3] != (self.image_size, self.image_size):
      found = " x ".join(map(str, image.shape[1:3]))
      raise ValueError(f"the model takes images of {self.image_size} x {self.image_size} pixels; found {found}")
    x = self.patches(image)
    if self.extra:
      first = jnp.broadcast_to(self.cls.astype(x.dtype), (x.shape[0], 1, self.width))
      x = jnp.concatenate([first, x], axis=1)
    x += self.pos.astype(x.dtype)
    if train and self.patch_dropout:
      x = patch_dropout(self.make_rng("dropout"), x, self.patch_dropout, self.extra)
    x = x if self.norm_first is None else self.norm_first(x)
    x = parallel.constrain(x, Axis.BATCH, Axis.POSITION, Axis.EMBED)
    return self.blocks(x, train=train)

  def grid(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b i j d"]:
    """The outputs of the last block at each patch, not yet normalized."""
    x, side = self.tokens(image, train=train)[:, self.extra :], self.image_size // self.patch
    return x.reshape(x.shape[0], side, side, self.width)

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Float[Array, "b h w c"]]:
    """Zeros of the shapes that the model takes, for `init`."""
    return (jnp.zeros((batch, self.image_size, self.image_size, 3)),)


def _variant(patch: int, width: int, depth: int, heads: int, image_size: int = 224, **more: Any) -> dict[str, Any]:
  return {"image_size": image_size, "patch": patch, "width": width, "depth": depth, "heads": heads, **more}


SIGLIP = dict(pool="map", norm_pre=False, patch_bias=True, activation="gelu_tanh", epsilon=1e-6)

VARIANTS: dict[str, dict[str, Any]] = {
  "test": _variant(4, 32, 2, 2, 16),
  "small": _variant(4, 192, 4, 3, 32),
  "B/32": _variant(32, 768, 12, 12),
  "B/16": _variant(16, 768, 12, 12),
  "L/14": _variant(14, 1024, 24, 16),
  "L/14@336": _variant(14, 1024, 24, 16, 336),
  "H/14": _variant(14, 1280, 32, 16),
  "g/14": _variant(14, 1408, 40, 16, mlp=6144),
  "bigG/14": _variant(14, 1664, 48, 16, mlp=8192),
  "SigLIP-B/16": _variant(16, 768, 12, 12, **SIGLIP),
  "SigLIP-L/16": _variant(16, 1024, 24, 16, 256, **SIGLIP),
  "SigLIP-So400m/14": _variant(14, 1152, 27, 16, mlp=4304, **SIGLIP),
}


def build(variant: str | None = None, **overrides: Any) -> ViT:
  """The ViT of a variant, upper and lower case alike, with some fields overridden.

  Raises:
    ValueError: an unknown variant or field, with the nearest name, or a patch that does not divide the image.
  """
  model = variants.make(ViT, variant, VARIANTS, overrides)
  if model.image_size % model.patch:
    raise ValueError(f"patches of {model.patch} pixels do not divide an image of {model.image_size}")
  return model


def adapt_params(params: Params, model: ViT) -> Params:
  """Parameters of a ViT of another resolution, for this one: positions are resized, all else must fit.

  Raises:
    ValueError: a name or another shape differs.
  """
  if "pos" in params and params["pos"].ndim == 2:
    grid = model.image_size // model.patch
    params = {**params, "pos": fitting.resize_grid(params["pos"], grid, POOLS[model.pool])}
  return fitting.check(params, model)
