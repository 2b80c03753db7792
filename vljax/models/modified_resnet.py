"""CLIP's ResNet: three convolutions at the stem, average pooling for strides, attention for the last pooling."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax import parallel
from vljax.layers.batch_norm import BatchNorm
from vljax.layers.block import call
from vljax.layers.conv import Conv
from vljax.layers.embed import positions
from vljax.layers.linear import Linear
from vljax.models import fitting, variants
from vljax.ops.attention import attention
from vljax.parallel import Axis
from vljax.types import Params

EXPANSION = 4


def halve(x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
  """The mean of each 2 x 2 square."""
  return nn.avg_pool(x, (2, 2), (2, 2))


class Bottleneck(nn.Module):
  """relu(shortcut(x) + f(x)); no convolution has a stride, both ways average 2 x 2 squares instead.

  Attributes:
    project: the shortcut is a convolution; otherwise it is x.
  """

  features: int
  stride: int
  project: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b i j k"]:
    conv = lambda n, features, kernel: Conv(features, kernel, dtype=self.dtype, name=f"conv_{n}")
    norm = lambda n, **options: BatchNorm(dtype=self.dtype, name=f"norm_{n}", **options)
    wide, pool = EXPANSION * self.features, halve if self.stride == 2 else lambda x: x
    shortcut = x
    if self.project:
      shortcut = norm("shortcut")(conv("shortcut", wide, 1)(pool(x)), train=train)
    x = jax.nn.relu(norm(1)(conv(1, self.features, 1)(x), train=train))
    x = jax.nn.relu(norm(2)(conv(2, self.features, 3)(x), train=train))
    x = norm(3, scale_init=nn.initializers.zeros)(conv(3, wide, 1)(pool(x)), train=train)
    return jax.nn.relu(x + shortcut)


class MeanQuery(nn.Module):
  """The mean of all places attends to itself and to them, each with a learned position.

  Attributes:
    places: of the grid that comes in.
  """

  places: int
  heads: int
  dtype: Any
  attention: str | None

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b d"]:
    width = x.shape[-1]
    x = jnp.concatenate([x.mean(1, keepdims=True), x], axis=1)
    x += self.param("pos", positions(width**-0.5), (self.places + 1, width)).astype(x.dtype)
    init, axes = nn.initializers.normal(width**-0.5), (Axis.EMBED, Axis.HEADS, Axis.HEAD_DIM)
    linear = lambda name: Linear((self.heads, width // self.heads), axes, init, dtype=self.dtype, name=name)
    query, key, value = linear("query")(x[:, :1]), linear("key")(x), linear("value")(x)
    return attention(query, key, value, implementation=self.attention).reshape(x.shape[0], width)


class ModifiedResNet(nn.Module):
  """Stem, four groups of bottlenecks, attention pooling (arXiv 2103.00020, section 2.4, as in the released code).

  The pooling's last linear map, from `width` to the joint space, is the dual encoder's `affine` head.

  Attributes:
    blocks: per group.
    base: channels of the first group; the feature has 32 times as many.
    image_size: a multiple of 32.
    heads: of the pooling; None means one per 64 channels.
    remat: what the backward pass of a bottleneck computes again, a key of `layers.block.REMAT`.
    attention: implementation of `ops.attention`; None picks.
  """

  blocks: tuple[int, ...]
  base: int = 64
  image_size: int = 224
  heads: int | None = None
  dtype: Any = "float32"
  remat: str = "none"
  attention: str | None = None

  activation = "relu"
  pool = "attention"

  @property
  def width(self) -> int:
    """Of the feature."""
    return self.base * EXPANSION * 2 ** (len(self.blocks) - 1)

  @property
  def grid(self) -> int:
    """Places per side of what is pooled."""
    return self.image_size // (4 * 2 ** (len(self.blocks) - 1))

  @nn.compact
  def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b d"]:
    """The feature of each normalized NHWC image; `train` normalizes by the batch.

    Raises:
      ValueError: the image has another size than the model.
    """
    if image.shape[1:3] != (self.image_size, self.image_size):
      found = " x ".join(map(str, image.shape[1:3]))
      raise ValueError(f"the model takes images of {self.image_size} x {self.image_size} pixels; found {found}")
    x = self._stem(image.astype(self.dtype), train)
    for i, count in enumerate(self.blocks):
      for j in range(count):
        stride = 2 if i > 0 and j == 0 else 1
        block = Bottleneck(self.base * 2**i, stride, j == 0, self.dtype, name=f"group_{i}_{j}")
        x = call(block, x, self.remat, train=train)
    x = parallel.constrain(x.reshape(x.shape[0], -1, x.shape[-1]), Axis.BATCH, Axis.POSITION, Axis.EMBED)
    return MeanQuery(self.grid**2, self.heads or self.width // 64, self.dtype, self.attention, name="pool")(x)

  def _stem(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b i j k"]:
    for i, (features, stride) in enumerate(((self.base // 2, 2), (self.base // 2, 1), (self.base, 1))):
      x = Conv(features, 3, stride, dtype=self.dtype, name=f"stem_{i}")(x)
      x = jax.nn.relu(BatchNorm(dtype=self.dtype, name=f"stem_norm_{i}")(x, train=train))
    return halve(x)

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Float[Array, "b h w c"]]:
    """Zeros of the shapes that the model takes, for `init`."""
    return (jnp.zeros((batch, self.image_size, self.image_size, 3)),)


VARIANTS: dict[str, dict[str, Any]] = {
  "test": dict(blocks=(1, 1), base=8, image_size=16, heads=2),
  "RN50": dict(blocks=(3, 4, 6, 3)),
  "RN101": dict(blocks=(3, 4, 23, 3)),
  "RN50x4": dict(blocks=(4, 6, 10, 6), base=80, image_size=288),
  "RN50x16": dict(blocks=(6, 8, 18, 8), base=96, image_size=384),
  "RN50x64": dict(blocks=(3, 15, 36, 10), base=128, image_size=448),
}


def build(variant: str | None = None, **overrides: Any) -> ModifiedResNet:
  """The ModifiedResNet of a variant, upper and lower case alike, with some fields overridden.

  Raises:
    ValueError: an unknown variant or field, with the nearest name, or an image size that the strides do not divide.
  """
  if "blocks" in overrides:
    overrides["blocks"] = tuple(overrides["blocks"])
  model = variants.make(ModifiedResNet, variant, VARIANTS, overrides)
  stride = 4 * 2 ** (len(model.blocks) - 1)
  if model.image_size % stride:
    raise ValueError(f"strides of {stride} in all do not divide an image of {model.image_size}")
  return model


def adapt_params(params: Params, model: ModifiedResNet) -> Params:
  """Parameters of such a tower of another resolution, for this one: the pooling's positions are resized.

  Raises:
    ValueError: a name or another shape differs.
  """
  if "pos" in params.get("pool", {}):
    pool = {**params["pool"], "pos": fitting.resize_grid(params["pool"]["pos"], model.grid, 1)}
    params = {**params, "pool": pool}
  return fitting.check(params, model)
