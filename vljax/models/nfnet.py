"""NFNets: residual networks without norms; constants keep the variance (Brock et al. 2021, arXiv 2102.06171)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax import config, parallel
from vljax.layers.block import Layers
from vljax.layers.linear import Linear
from vljax.layers.mlp import ACTIVATIONS
from vljax.layers.scaled_conv import ScaledConv, Standardization
from vljax.models import variants
from vljax.ops import nfnet
from vljax.ops.nfnet import padding
from vljax.parallel import Axis
from vljax.types import Params, Rng

POOLS = dict.fromkeys(("mean", "none"))
GAMMAS = dict.fromkeys(("activation", "kernel"))


@dataclasses.dataclass(frozen=True)
class Style:
  """What all parts of a network share.

  Attributes:
    activation: f, by name.
    gain: what f(x) is multiplied by.
    alpha: what a residual branch is multiplied by.
    the others: as of NFNet and ScaledConv.
  """

  activation: str
  gain: float
  alpha: float
  skip_init: bool
  drop_path_scaled: bool
  standardization: Standardization
  padding: str
  implementation: str | None
  dtype: Any

  def act(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """gain * f(x)."""
    return self.gain * ACTIVATIONS[self.activation](x)

  def conv(self, features: int, kernel: int = 1, **options: Any) -> ScaledConv:
    """A convolution of this network."""
    return ScaledConv(
      features, kernel, standardization=self.standardization, padding=self.padding, dtype=self.dtype, **options
    )


def skip(rng: Rng, x: Float[Array, "b *n"], rate: float | Float[Array, ""], scaled: bool) -> Float[Array, "b *n"]:
  """x with whole examples set to zero with probability `rate`; the others divided by 1 - rate if `scaled`."""
  kept = jax.random.bernoulli(rng, 1 - rate, (x.shape[0], *(1,) * (x.ndim - 1)))
  return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype) if scaled else x, 0)


class SqueezeExcite(nn.Module):
  """2 x sigmoid(excite(relu(squeeze(mean(x))))): the gate of 1709.01507, doubled so that it is 1 at 0."""

  hidden: int
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    init = nn.initializers.lecun_normal()
    dense = lambda features, axes, name: Linear((features,), axes, init, dtype=self.dtype, name=name)
    gate = jax.nn.relu(dense(self.hidden, (Axis.EMBED, Axis.MLP), "squeeze")(x.mean((1, 2))))
    gate = dense(x.shape[-1], (Axis.MLP, Axis.EMBED), "excite")(gate)
    return x * (2 * jax.nn.sigmoid(gate))[:, None, None]


class NFBlock(nn.Module):
  """shortcut + alpha * skip_gain * excite(conv_3 . conv_2b . conv_2 . conv_1(beta * act(x))), act before each.

  conv_1 and conv_3 are 1 x 1, the other two 3 x 3 in groups. The shortcut is x or, where shape or stride differ, a
  1 x 1 convolution of beta * act(x), averaged over 2 x 2 pixels first where there is a stride.

  Attributes:
    features: output channels.
    inner: channels of the middle ones.
    squeeze: channels of squeeze-and-excitation's hidden layer.
  """

  features: int
  inner: int
  groups: int
  squeeze: int
  style: Style
  stride: int = 1

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b h w c"],
    *,
    train: bool = False,
    beta: float | Float[Array, ""] = 1.0,
    drop: float | Float[Array, ""] = 0.0,
  ) -> Float[Array, "b i j k"]:
    """Runs the block.

    Args:
      beta: 1 / the deviation that x has at the start, by the theory.
      drop: in training, the probability that an example passes by; needs the rng `dropout`.
    """
    style, act = self.style, self.style.act
    grouped = dict(groups=self.groups, implementation=style.implementation)
    y = act(x) * jnp.asarray(beta, x.dtype)
    shortcut = self._shortcut(y) if self.stride > 1 or x.shape[-1] != self.features else x
    y = style.conv(self.inner, name="conv_1")(y)
    y = style.conv(self.inner, 3, stride=self.stride, name="conv_2", **grouped)(act(y))
    y = style.conv(self.inner, 3, name="conv_2b", **grouped)(act(y))
    last = nn.initializers.ones if style.skip_init else nn.initializers.zeros
    y = style.conv(self.features, gain_init=last, name="conv_3")(act(y))
    y = SqueezeExcite(self.squeeze, style.dtype, name="se")(y)
    if train and self.has_rng("dropout"):
      y = skip(self.make_rng("dropout"), y, drop, style.drop_path_scaled)
    if style.skip_init:
      gain: Any = self.param("skip_gain", nn.with_logical_partitioning(nn.initializers.zeros, ()), ())
      y *= gain.astype(y.dtype)
    return parallel.constrain(style.alpha * y + shortcut, Axis.BATCH, None, None, None)

  def _shortcut(self, y: Float[Array, "b h w c"]) -> Float[Array, "b i j k"]:
    if self.stride > 1:
      stride = (self.stride, self.stride)
      y = nn.avg_pool(y, (2, 2), stride, "SAME", count_include_pad=False)
    return self.style.conv(self.features, name="conv_shortcut")(y)


class NFBlocks(Layers):
  """Equal NFBlocks in a row, run by `lax.scan`: they differ in two constants only.

  Attributes:
    betas, drops: of each block.
  """

  betas: tuple[float, ...] = ()
  drops: tuple[float, ...] = ()

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b h w c"]:
    """Runs all blocks; each draws its own skips."""
    block, params, keys = self._open(train, x)

    def body(x: Array, layer: Any) -> tuple[Array, None]:
      params, key, beta, drop = layer
      rngs = None if key is None else {"dropout": key}
      return block.apply({"params": params}, x, train=train, beta=beta, drop=drop, rngs=rngs), None

    layers = params, keys, jnp.asarray(self.betas), jnp.asarray(self.drops)
    return jax.lax.scan(self._saving(body), x, layers, unroll=self._unroll(params))[0]

  def _unroll(self, params: Params) -> int:
    """Without a loop on CPUs: there XLA's gradient of a convolution's kernel takes 40 times as long in one."""
    return self.unroll or (self.length if jax.default_backend() == "cpu" else super()._unroll(params))


class Stage(nn.Module):
  """A block that changes the shape, then equal ones.

  Attributes:
    block: of the equal ones.
    stride: of the first.
    beta: of the first.
    drops: of all.
    remat, unroll: of `layers.block.Layers`, for the equal ones.
  """

  block: NFBlock
  stride: int
  beta: float
  drops: tuple[float, ...]
  remat: str
  unroll: int | None

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b i j k"]:
    first = self.block.clone(parent=None, name=None, stride=self.stride)
    x = first.clone(parent=self, name="first")(x, train=train, beta=self.beta, drop=self.drops[0])
    length = len(self.drops) - 1
    if not length:
      return x
    betas = tuple((1 + i * self.block.style.alpha**2) ** -0.5 for i in range(1, length + 1))
    rest = NFBlocks(self.block, length, self.remat, self.unroll, betas=betas, drops=self.drops[1:], name="blocks")
    return rest(x, train=train)


class NFNet(nn.Module):
  """Four convolutions, four stages of blocks, a 1 x 1 convolution, the mean over positions.

  At the start each block adds alpha^2 to the variance of x, which the first block of a stage, whose shortcut is a
  convolution of beta * act(x), brings back to 1. The defaults are the paper's; timm's two families differ from it in
  what interop.nfnet.FAMILIES says.

  Attributes:
    depths: blocks of each stage.
    widths: output channels of each stage.
    stem: channels of the four first convolutions.
    head: channels of the last convolution, of the feature; None means twice the last width.
    group_width: channels of a group of the 3 x 3 convolutions.
    bottleneck: channels between the 1 x 1 convolutions, over the width.
    se_ratio: of squeeze-and-excitation's hidden layer to the width.
    eps: how standardized kernels keep their variance from zero, a key of ops.nfnet.EPSILONS.
    gamma: where the gain of the activation is: in the `activation`, or in every `kernel`.
    padding: `same` or `symmetric`.
    skip_init: branches are multiplied by a learned scalar that starts at 0 (SkipInit, arXiv 2002.10444); without it
      the gains of the last convolutions of branches start at 0.
    drop_path: in training, block i of n is skipped by an example with probability drop_path * i / n (stochastic depth,
      arXiv 1603.09382). `drop_path_scaled` divides what is kept by its probability; the paper does not.
    dropout: before the classifier.
    num_classes: of a linear classifier; None gives features.
    pool: the feature is the `mean` over positions; `none` gives them all, [b h w d].
    conv: implementation of the grouped convolutions, see ops.nfnet; None picks.
    folded: the kernels are standardized already, see `fold`.
    dtype, remat, unroll: as of `vit.ViT`.
  """

  depths: tuple[int, ...]
  widths: tuple[int, ...] = (256, 512, 1536, 1536)
  stem: tuple[int, ...] = (16, 32, 64, 128)
  head: int | None = None
  group_width: int = 128
  bottleneck: float = 0.5
  se_ratio: float = 0.5
  alpha: float = 0.2
  activation: str = "gelu_tanh"
  eps: str = "deepmind"
  gamma: str = "activation"
  padding: str = "same"
  skip_init: bool = True
  drop_path: float = 0.0
  drop_path_scaled: bool = False
  dropout: float = 0.0
  num_classes: int | None = None
  pool: str = "mean"
  image_size: int = 224
  conv: str | None = None
  folded: bool = False
  dtype: Any = "float32"
  remat: str = "none"
  unroll: int | None = None

  @property
  def width(self) -> int:
    """Of the feature."""
    return self.head or 2 * self.widths[-1]

  @property
  def standardization(self) -> Standardization:
    """How stored kernels become those that are convolved with."""
    gamma = nfnet.GAINS[self.activation] if self.gamma == "kernel" else 1.0
    return Standardization(self.eps, gamma, self.folded)

  @property
  def drops(self) -> tuple[float, ...]:
    """The probability of each block to be skipped in training."""
    count = sum(self.depths)
    return tuple(self.drop_path * i / count for i in range(count))

  def setup(self):
    gain = nfnet.GAINS[self.activation] if self.gamma == "activation" else 1.0
    self.style = Style(
      self.activation, gain, self.alpha, self.skip_init, self.drop_path_scaled, self.standardization, self.padding,
      self.conv, self.dtype,
    )  # fmt: skip
    strides = (2, 1, 1, 2)
    self.stem_conv = [self.style.conv(n, 3, stride=s) for n, s in zip(self.stem, strides, strict=True)]
    self.stage = list(self._stages())
    self.final = self.style.conv(self.width)
    if self.num_classes is not None:
      init = nn.initializers.normal(0.01)
      self.drop = nn.Dropout(self.dropout)
      self.classifier = Linear((self.num_classes,), (Axis.EMBED, None), init, dtype=self.dtype)

  def _stages(self):
    before, beta = 0, 1.0
    for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
      groups = int(width * self.bottleneck) // self.group_width
      block = NFBlock(
        width, groups * self.group_width, groups, max(1, int(width * self.se_ratio)), self.style, parent=None
      )
      drops = self.drops[before : before + depth]
      yield Stage(block, 1 if i == 0 else 2, beta, drops, self.remat, self.unroll)
      before, beta = before + depth, (1 + depth * self.alpha**2) ** -0.5

  def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b *n d"]:
    """The feature, the grid of features (`pool = "none"`), or the logits of each normalized NHWC image.

    `train` draws skipped blocks and dropout from the rng `dropout`.
    """
    x = self.grid(image, train=train)
    if self.pool == "mean":
      x = x.mean((1, 2))
    if self.num_classes is None:
      return x
    return self.classifier(self.drop(x, deterministic=not train))

  def grid(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b i j d"]:
    """The activated outputs of the last convolution at each 32nd pixel, of which the feature is the mean."""
    x = image.astype(self.dtype)
    for i, conv in enumerate(self.stem_conv):
      x = conv(self.style.act(x) if i else x)
    for stage in self.stage:
      x = stage(x, train=train)
    return self.style.act(self.final(x))

  @nn.nowrap
  def fold(self, params: Params) -> Params:
    """Parameters of the same names whose kernels are standardized, for `self.clone(folded=True)`.

    Done once per step outside the micro-batches (`viewed`), or once before inference, it leaves plain convolutions.
    """
    return self.standardization.fold(params)

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Float[Array, "b h w c"]]:
    """Zeros of the shapes that the model takes, for `init`."""
    return (jnp.zeros((batch, self.image_size, self.image_size, 3)),)


def viewed(model: nn.Module, part: str) -> tuple[nn.Module, Callable[[Params], Params] | None]:
  """(the model that runs on what the view gives, the view): the kernels of the NFNet `part` of a model, folded.

  What `train.recipe.Recipe.view` takes; (the model, None) where the part has nothing to fold.
  """
  tower = getattr(model, part)
  if not hasattr(tower, "fold") or tower.folded:
    return model, None
  return model.clone(**{part: tower.clone(folded=True)}), lambda p: {**p, part: tower.fold(p[part])}


def _variant(number: int, size: int, dropout: float) -> dict[str, Any]:
  depths = tuple(n * (number + 1) for n in (1, 2, 6, 3))
  return dict(depths=depths, image_size=size, dropout=dropout, drop_path=0.25)


_SIZES = {0: (192, 0.2), 1: (224, 0.3), 2: (256, 0.4), 3: (320, 0.4), 4: (384, 0.5), 5: (416, 0.5), 6: (448, 0.5),
          7: (480, 0.5)}  # fmt: skip
_WIDE = dict(widths=(384, 768, 2048, 2048), stem=(16, 32, 64, 192))

VARIANTS: dict[str, dict[str, Any]] = {
  "test": dict(
    depths=(1, 1, 1, 1), widths=(32, 64, 96, 128), head=192, group_width=8, bottleneck=0.25, se_ratio=0.25,
    activation="silu", image_size=32,
  ),
  **{f"F{n}": _variant(n, *row) for n, row in _SIZES.items()},
  **{f"F{n}+": {**_variant(n, *row), **_WIDE} for n, row in _SIZES.items()},
}  # fmt: skip
"""Table 1 of the paper: blocks, training resolution and dropout; the wider F+ are of the released code; `test` is as
large as timm's test_nfnet."""


def build(variant: str | None = None, **overrides: Any) -> NFNet:
  """The NFNet of a variant, upper and lower case alike, with some fields overridden.

  Raises:
    ValueError: an unknown variant, field or value of a field, with the nearest name, or a classifier without a pool.
  """
  model = variants.make(NFNet, variant, VARIANTS, overrides)
  choices = {
    "activation": nfnet.GAINS, "eps": nfnet.EPSILONS, "gamma": GAMMAS, "padding": padding.KINDS, "pool": POOLS,
  }  # fmt: skip
  for field, legal in choices.items():
    config.choose(f"{field} of NFNet", getattr(model, field), legal)
  inner = int(min(model.widths) * model.bottleneck)
  if inner < model.group_width:
    raise ValueError(
      f"groups of {model.group_width} channels do not fit into the {inner} inner channels of a stage of NFNet"
    )
  if model.num_classes is not None and model.pool == "none":
    raise ValueError(f"num_classes = {model.num_classes} of NFNet needs a pooled feature; found pool = 'none'")
  return model
