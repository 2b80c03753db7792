"""ResNets as SimCLR has them: stride on the 3 x 3, any width, selective kernels (arXiv 2002.05709, 2006.10029)."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax import config
from vljax.layers.batch_norm import BatchNorm
from vljax.layers.block import call
from vljax.layers.conv import Conv
from vljax.layers.linear import Linear
from vljax.models import variants
from vljax.parallel import Axis

INITS = {
  "fan_out": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
  "fan_in": nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal"),
}
"""How kernels are drawn: as in torchvision (arXiv 1502.01852), or as in SimCLR's released code. Batch norm hides the
scale from the forward pass, but not from LARS's ratios and weight decay."""

STEMS = dict.fromkeys(("imagenet", "deep", "cifar"))


class SelectiveKernel(nn.Module):
  """Two 3 x 3 streams of one convolution, mixed per channel by a softmax over the two (arXiv 1903.06586).

  Attributes:
    ratio: of the mixing network's hidden width to the features, 32 at least.
  """

  features: int
  stride: int
  ratio: float
  kernel_init: nn.initializers.Initializer
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b i j k"]:
    conv = functools.partial(Conv, kernel_init=self.kernel_init, dtype=self.dtype)
    x = conv(2 * self.features, 3, self.stride, name="conv")(x)
    x = jax.nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))
    streams = x.reshape(*x.shape[:-1], 2, self.features)
    pooled = streams.sum(-2).mean((1, 2), keepdims=True)
    hidden = conv(max(int(self.features * self.ratio), 32), 1, name="squeeze")(pooled)
    hidden = jax.nn.relu(BatchNorm(dtype=self.dtype, name="squeeze_norm")(hidden, train=train))
    mix = conv(2 * self.features, 1, name="mix")(hidden)
    mix = jax.nn.softmax(mix.reshape(*mix.shape[:-1], 2, self.features), axis=-2)
    return (streams * mix).sum(-2)


class ResidualBlock(nn.Module):
  """relu(shortcut(x) + f(x)); f has two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1 with four times the features.

  Attributes:
    project: the shortcut is a convolution; otherwise it is x.
  """

  features: int
  stride: int
  bottleneck: bool
  project: bool
  sk_ratio: float
  kernel_init: nn.initializers.Initializer
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b i j k"]:
    conv = lambda n, *shape: self._conv(*shape, name=f"conv_{n}")
    norm = lambda n, **options: BatchNorm(dtype=self.dtype, name=f"norm_{n}", **options)
    wide = 4 * self.features if self.bottleneck else self.features
    shortcut = self._shortcut(x, wide, train) if self.project else x
    first = (1, 1) if self.bottleneck else (3, self.stride)
    x = jax.nn.relu(norm(1)(conv(1, self.features, *first)(x), train=train))
    if self.bottleneck and self.sk_ratio:
      x = SelectiveKernel(self.features, self.stride, self.sk_ratio, self.kernel_init, self.dtype, name="selective")(
        x, train=train
      )
    elif self.bottleneck:
      x = jax.nn.relu(norm(2)(conv(2, self.features, 3, self.stride)(x), train=train))
    last = 3 if self.bottleneck else 2
    x = conv(last, wide, 1 if self.bottleneck else 3)(x)
    x = norm(last, scale_init=nn.initializers.zeros)(x, train=train)
    return jax.nn.relu(x + shortcut)

  def _shortcut(self, x: Float[Array, "b h w c"], features: int, train: bool) -> Float[Array, "b i j k"]:
    stride = self.stride
    if self.sk_ratio:  # ResNet-D (arXiv 1812.01187): average first, so that no pixel is skipped
      edge: Any = "SAME" if stride == 1 else ((0, 1), (0, 1))
      # As in the released code: at stride 1 a window ends at the edge, at stride 2 zeros go on beyond it.
      x, stride = nn.avg_pool(x, (2, 2), (stride, stride), edge, count_include_pad=stride > 1), 1
    x = self._conv(features, 1, stride, name="conv_shortcut")(x)
    return BatchNorm(dtype=self.dtype, name="norm_shortcut")(x, train=train)

  def _conv(self, *shape: int, name: str) -> Conv:
    return Conv(*shape, kernel_init=self.kernel_init, dtype=self.dtype, name=name)


class ResNet(nn.Module):
  """A stem, four groups of residual blocks, the mean over positions (arXiv 1512.03385).

  Attributes:
    blocks: per group.
    width_multiplier: of all channels; below 1 for small machines.
    stem: `imagenet` (7 x 7, stride 2, max pool), `deep` (ResNet-D: three 3 x 3 in its place), `cifar` (3 x 3).
    sk_ratio: 0.0625 has selective kernels with ResNet-D's shortcuts, 0 neither (bottlenecks only).
    conv_init: how kernels are drawn, a key of INITS.
    num_classes: of a linear classifier; None gives features.
    remat: what the backward pass of a block computes again, a key of `layers.block.REMAT`.
  """

  blocks: tuple[int, ...]
  bottleneck: bool = True
  width_multiplier: float = 1
  stem: str = "imagenet"
  sk_ratio: float = 0.0
  conv_init: str = "fan_out"
  num_classes: int | None = None
  image_size: int = 224
  dtype: Any = "float32"
  remat: str = "none"

  activation = "relu"
  pool = "mean"

  @property
  def base(self) -> int:
    """Channels of the first group."""
    return int(64 * self.width_multiplier)

  @property
  def width(self) -> int:
    """Of the feature."""
    return self.base * 2 ** (len(self.blocks) - 1) * (4 if self.bottleneck else 1)

  @nn.compact
  def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b d"]:
    """The feature, or the logits, of each image; `train` normalizes by the batch."""
    x = self._stem(image.astype(self.dtype), train)
    for i, count in enumerate(self.blocks):
      for j in range(count):
        project = j == 0 and (i > 0 or self.bottleneck)
        features, stride = self.base * 2**i, 2 if i > 0 and j == 0 else 1
        block = ResidualBlock(
          features, stride, self.bottleneck, project, self.sk_ratio, INITS[self.conv_init], self.dtype,
          name=f"group_{i}_{j}",
        )  # fmt: skip
        x = call(block, x, self.remat, train=train)
    x = x.mean((1, 2))
    if self.num_classes is None:
      return x
    axes = (Axis.EMBED, None)
    return Linear((self.num_classes,), axes, nn.initializers.zeros, dtype=self.dtype, name="classifier")(x)

  def _stem(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b i j k"]:
    width = self.base
    layers = {
      "imagenet": [(width, 7, 2)],
      "deep": [(width // 2, 3, 2), (width // 2, 3, 1), (width, 3, 1)],
      "cifar": [(width, 3, 1)],
    }[self.stem]
    for i, (features, kernel, stride) in enumerate(layers):
      init = INITS[self.conv_init]
      x = Conv(features, kernel, stride, kernel_init=init, dtype=self.dtype, name=f"stem_{i}")(x)
      x = jax.nn.relu(BatchNorm(dtype=self.dtype, name=f"stem_norm_{i}")(x, train=train))
    return x if self.stem == "cifar" else nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Float[Array, "b h w c"]]:
    """Zeros of the shapes that the model takes, for `init`."""
    return (jnp.zeros((batch, self.image_size, self.image_size, 3)),)


VARIANTS: dict[str, dict[str, Any]] = {
  "test": dict(blocks=(1, 1), bottleneck=False, stem="cifar", image_size=16),
  "resnet18": dict(blocks=(2, 2, 2, 2), bottleneck=False),
  "resnet34": dict(blocks=(3, 4, 6, 3), bottleneck=False),
  "resnet50": dict(blocks=(3, 4, 6, 3)),
  "resnet101": dict(blocks=(3, 4, 23, 3)),
  "resnet152": dict(blocks=(3, 8, 36, 3)),
  "resnet200": dict(blocks=(3, 24, 36, 3)),
}


def build(variant: str | None = None, **overrides: Any) -> ResNet:
  """The ResNet of a variant, upper and lower case alike, with some fields overridden.

  Raises:
    ValueError: an unknown variant, field or stem, with the nearest name, or selective kernels without bottlenecks.
  """
  model = variants.make(ResNet, variant, VARIANTS, overrides)
  config.choose("stem of ResNet", model.stem, STEMS)
  config.choose("conv_init of ResNet", model.conv_init, INITS)
  if model.sk_ratio and not model.bottleneck:
    raise ValueError(f"sk_ratio = {model.sk_ratio} needs bottleneck blocks; this ResNet has basic ones")
  return model
