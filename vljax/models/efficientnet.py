"""EfficientNets: inverted bottlenecks scaled in width, depth and resolution together (arXiv 1905.11946)."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.layers.batch_norm import BatchNorm
from vljax.layers.conv import Conv
from vljax.models import variants

Stages = tuple[tuple[int, int, int, int, int], ...]

STAGES: Stages = (
  (1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2),
  (6, 320, 1, 3, 1),
)  # fmt: skip
"""Expansion, channels, blocks, kernel and stride of B0's stages (table 1)."""


def channels(count: float) -> int:
  """The multiple of 8 nearest to a number of channels, not more than a tenth below it (their code)."""
  rounded = max(8, int(count + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * count else rounded


class InvertedBottleneck(nn.Module):
  """x + project(excite(depthwise(expand(x)))); without x where shape or stride differ (arXiv 1801.04381, 1709.01507).

  Attributes:
    expansion: of the channels within; 1 has no `expand`.
    squeeze: channels of squeeze-and-excitation's hidden layer; 0: none.
    drop_path: how probable it is in training that an example skips the block (arXiv 1603.09382).
  """

  features: int
  expansion: int
  kernel: int
  stride: int
  squeeze: int
  lite: bool
  drop_path: float
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b i j k"]:
    act = jax.nn.relu6 if self.lite else jax.nn.silu
    inner = x.shape[-1] * self.expansion
    y = x
    if self.expansion != 1:
      y = act(_norm("expand_norm", self.dtype)(Conv(inner, 1, dtype=self.dtype, name="expand")(y), train=train))
    y = Conv(inner, self.kernel, self.stride, inner, same=True, dtype=self.dtype, name="depthwise")(y)
    y = act(_norm("depthwise_norm", self.dtype)(y, train=train))
    if self.squeeze:
      gate = y.mean((1, 2), keepdims=True)
      gate = act(Conv(self.squeeze, 1, use_bias=True, dtype=self.dtype, name="squeeze")(gate))
      y *= jax.nn.sigmoid(Conv(inner, 1, use_bias=True, dtype=self.dtype, name="excite")(gate))
    y = _norm("project_norm", self.dtype)(Conv(self.features, 1, dtype=self.dtype, name="project")(y), train=train)
    if self.stride > 1 or x.shape[-1] != self.features:
      return y
    return x + nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3), deterministic=not train)(y)


def _norm(name: str, dtype: Any) -> BatchNorm:
  return BatchNorm(momentum=0.99, epsilon=1e-3, dtype=dtype, name=name)


class EfficientNet(nn.Module):
  """A stem, stages of inverted bottlenecks, a 1 x 1 head, the mean over positions. Strides pad as TensorFlow does.

  Attributes:
    widths: what channels are multiplied by (the paper's w), then rounded.
    depths: what a stage's blocks are multiplied by (d), then rounded up.
    lite: EfficientNet-Lite: relu6, neither squeeze-and-excitation nor scaling of stem, head, first and last stage.
    head: channels of the head before scaling; 0: none, the feature is the mean of the last stage (ALIGN).
    dropout: before the classifier.
    drop_path: of the last block; it grows linearly from 0 (stochastic depth).
    num_classes: of a linear classifier; None gives features.
  """

  widths: float = 1.0
  depths: float = 1.0
  stages: Stages = STAGES
  lite: bool = False
  stem: int = 32
  head: int = 1280
  dropout: float = 0.0
  drop_path: float = 0.0
  num_classes: int | None = None
  image_size: int = 224
  dtype: Any = "float32"

  pool = "mean"

  @property
  def activation(self) -> str:
    """What follows the norms."""
    return "relu6" if self.lite else "silu"

  @property
  def width(self) -> int:
    """Of the feature."""
    if not self.head:
      return channels(self.stages[-1][1] * self.widths)
    return self.head if self.lite else channels(self.head * self.widths)

  @property
  def first(self) -> int:
    """Channels of the stem."""
    return self.stem if self.lite else channels(self.stem * self.widths)

  def blocks(self) -> list[tuple[str, dict[str, Any]]]:
    """Name of each block, by stage and place, and its own fields."""
    found = []
    before = self.first
    for i, (expansion, width, count, kernel, stride) in enumerate(self.stages):
      features = channels(width * self.widths)
      fixed = self.lite and i in (0, len(self.stages) - 1)
      for j in range(count if fixed else math.ceil(count * self.depths)):
        squeeze = 0 if self.lite else max(1, before // 4)
        fields = dict(features=features, expansion=expansion, kernel=kernel, squeeze=squeeze)
        found.append((f"stage_{i}_{j}", {**fields, "stride": stride if j == 0 else 1}))
        before = features
    return found

  @nn.compact
  def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b d"]:
    """The feature, or the logits, of each image; `train` normalizes by the batch and draws from the rng `dropout`."""
    act = jax.nn.relu6 if self.lite else jax.nn.silu
    x = Conv(self.first, 3, 2, same=True, dtype=self.dtype, name="stem_conv")(image.astype(self.dtype))
    x = act(_norm("stem_norm", self.dtype)(x, train=train))
    blocks = self.blocks()
    for i, (name, fields) in enumerate(blocks):
      options = dict(lite=self.lite, drop_path=self.drop_path * i / len(blocks), dtype=self.dtype)
      x = InvertedBottleneck(**fields, **options, name=name)(x, train=train)
    if self.head:
      x = Conv(self.width, 1, dtype=self.dtype, name="head_conv")(x)
      x = act(_norm("head_norm", self.dtype)(x, train=train))
    x = x.mean((1, 2))
    if self.num_classes is None:
      return x
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(self.num_classes, dtype=self.dtype, name="classifier")(x)

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Float[Array, "b h w c"]]:
    """Zeros of the shapes that the model takes, for `init`."""
    return (jnp.zeros((batch, self.image_size, self.image_size, 3)),)


def _variant(widths: float, depths: float, size: int, dropout: float, **more: Any) -> dict[str, Any]:
  return dict(widths=widths, depths=depths, image_size=size, dropout=dropout, drop_path=0.2, **more)


VARIANTS: dict[str, dict[str, Any]] = {
  "test": dict(stages=((1, 8, 1, 3, 1), (4, 16, 2, 5, 2)), stem=8, head=32, image_size=16),
  "B0": _variant(1.0, 1.0, 224, 0.2),
  "B1": _variant(1.0, 1.1, 240, 0.2),
  "B2": _variant(1.1, 1.2, 260, 0.3),
  "B3": _variant(1.2, 1.4, 300, 0.3),
  "B4": _variant(1.4, 1.8, 380, 0.4),
  "B5": _variant(1.6, 2.2, 456, 0.4),
  "B6": _variant(1.8, 2.6, 528, 0.5),
  "B7": _variant(2.0, 3.1, 600, 0.5),
  "L2": _variant(4.3, 5.3, 800, 0.5),
  "Lite0": _variant(1.0, 1.0, 224, 0.2, lite=True),
  "Lite1": _variant(1.0, 1.1, 240, 0.2, lite=True),
  "Lite2": _variant(1.1, 1.2, 260, 0.3, lite=True),
  "Lite3": _variant(1.2, 1.4, 280, 0.3, lite=True),
  "Lite4": _variant(1.4, 1.8, 300, 0.3, lite=True),
}
"""Width, depth, resolution and dropout of Google's code; L2 is Noisy Student's (arXiv 1911.04252)."""


def build(variant: str | None = None, **overrides: Any) -> EfficientNet:
  """The network of a variant, upper and lower case alike, with some fields overridden.

  Raises:
    ValueError: an unknown variant or field, with the nearest name.
  """
  return variants.make(EfficientNet, variant, VARIANTS, overrides)
