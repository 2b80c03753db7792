"""Gated cross-attention: layers that let a frozen language model see (Flamingo, arXiv 2204.14198, section 2.3)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vljax import config, parallel
from vljax.layers.block import Layers
from vljax.layers.cross_attention import FAN_IN, CrossAttention, Pair
from vljax.layers.decoder import NORMS, Insert
from vljax.layers.linear import Linear
from vljax.layers.mlp import Mlp
from vljax.models import variants
from vljax.ops.attention import media_attention, reference
from vljax.ops.attention.masks import Masks
from vljax.parallel import Axis

GATES = dict.fromkeys(("tanh", "tanh_vector", "none"))
PLACEMENTS = dict.fromkeys(("first", "last", "middle"))


class GatedBlock(nn.Module):
  """y = x + tanh(a) attention(norm_1(x), visual), then y + tanh(b) mlp(norm_2(y)); a and b start at zero.

  A row sees the tokens of its own medium only. Rows without a medium get nothing from the attention, but the
  feed-forward half works on them, too, as in all public versions. Linear maps have no biases.

  Attributes:
    width: of x.
    mlp: hidden width of the feed-forward half.
    gated: of `layers.mlp.Mlp`: SwiGLU where the activation is silu.
    norm: a key of `layers.decoder.NORMS`.
    qk_norm: of `layers.cross_attention.CrossAttention`.
    gate: `tanh` of one scalar each; of a vector (`tanh_vector`, IDEFICS); or `none`, an ablation of table 3.
    dense: whether there is a feed-forward half; without it, it is table 3's vanilla cross-attention.
    attention: implementation of `ops.attention`; None picks.
  """

  width: int
  heads: int
  head_dim: int
  mlp: int
  activation: str = "squared_relu"
  gated: bool = False
  norm: str = "layer"
  qk_norm: str = "none"
  gate: str = "tanh"
  dense: bool = True
  epsilon: float = 1e-5
  dtype: Any = "float32"
  attention: str | None = None

  def setup(self):
    config.choose("gate of cross-attention", self.gate, GATES)
    norm = config.choose("norm of cross-attention", self.norm, NORMS)
    self.norm_1 = norm(epsilon=self.epsilon, dtype=self.dtype)
    self.attend = CrossAttention(
      self.width, self.heads, self.head_dim, self.qk_norm, epsilon=self.epsilon, dtype=self.dtype, name="attention"
    )
    if self.dense:
      self.norm_2 = norm(epsilon=self.epsilon, dtype=self.dtype)
      self.feed = Mlp(self.mlp, self.activation, 1.0, self.dtype, self.gated, False, name="mlp")
    if self.gate != "none":
      shape, axes = ((self.width,), (Axis.EMBED,)) if self.gate == "tanh_vector" else ((), ())
      zeros = nn.with_logical_partitioning(nn.initializers.zeros, axes)
      self.gate_attention: Any = self.param("gate_attention", zeros, shape)
      if self.dense:
        self.gate_mlp: Any = self.param("gate_mlp", zeros, shape)

  def __call__(
    self,
    x: Float[Array, "b t d"],
    visual: Float[Array, "b n s e"] | None,
    phi: Int[Array, "b t"],
    first: Int[Array, "b t"] | None = None,
    pair: Pair | None = None,
  ) -> Float[Array, "b t d"]:
    """Runs the block.

    Args:
      visual: the tokens of each medium; not needed where `pair` is given.
      phi, first: of `ops.attention.media_attention`.
      pair: what `keys_values` gave for the visual tokens.
    """
    key, value = self.keys_values(visual) if pair is None else pair
    if key.shape[1]:
      y = media_attention(self.queries(x), key, value, phi, first=first, implementation=self.attention)
      x = x + self._opened("gate_attention", self.attend.merge(y))
    if self.dense:
      x = x + self._opened("gate_mlp", self.feed(self.norm_2(x)))
    return parallel.constrain(x, Axis.BATCH, Axis.POSITION, Axis.EMBED)

  def queries(self, x: Float[Array, "b t d"]) -> Float[Array, "b t k c"]:
    """What the rows look for."""
    return self.attend.queries(self.norm_1(x))

  def keys_values(self, visual: Float[Array, "b n s e"]) -> Pair:
    """Keys and values of visual tokens, [b n s k c]: the same at every step of decoding."""
    return self.attend.keys_values(visual)

  def weights(
    self, x: Float[Array, "b t d"], visual: Float[Array, "b n s e"], phi: Int[Array, "b t"]
  ) -> Float[Array, "b k t s"]:
    """What each row gives to the tokens of its own medium; rows without one have zeros."""
    key = self.keys_values(visual)[0]
    b, n, s = key.shape[:3]
    owner = jnp.broadcast_to(jnp.repeat(jnp.arange(1, n + 1), s), (b, n * s))
    masks = Masks(media=(phi, owner))
    dense = reference.weights(self.queries(x), key.reshape(b, n * s, *key.shape[3:]), None, masks, self.head_dim**-0.5)
    return dense.reshape(*dense.shape[:3], n, s).sum(3)

  def _opened(self, name: str, y: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
    return y if self.gate == "none" else jnp.tanh(getattr(self, name)).astype(y.dtype) * y


class GatedBlocks(Layers):
  """GatedBlocks with stacked parameters, which a decoder runs between its own blocks."""

  @nn.compact
  def __call__(
    self, x: Float[Array, "b t d"], visual: Float[Array, "b n s e"] | None, phi: Int[Array, "b t"]
  ) -> tuple[nn.Module, Any]:
    """(one block without parameters, those of all blocks); the arrays tell shapes when they are made."""
    block, params, _ = self._open(False, x, None if visual is None else visual[:1], phi)
    return block, params


class GatedXattn(nn.Module):
  """The gated blocks of a language model, and where they stand: before `depth` of its blocks.

  Attributes:
    visual_width: of the resampler's tokens.
    width, layers: of the language model.
    every, placement: before every k-th block, from the `first` on (the paper, IDEFICS) or up to the `last`, so that
      the numbers of the blocks plus one divide (OpenFlamingo); or once, before the one in the `middle`.
    project: whether a linear map takes the visual tokens to `width` before all layers. The paper does not name it, but
      the parameters that it counts imply keys and values of tokens as wide as the language model.
    head_dim: None means width / heads.
    mlp: hidden width of the feed-forward halves; None means 4 * width.
    previous: a row sees all media of its document up to its own (table 10), not its own only.
    the others: as of GatedBlock.
  """

  visual_width: int
  width: int
  layers: int
  heads: int
  every: int = 1
  placement: str = "first"
  project: bool = False
  head_dim: int | None = None
  mlp: int | None = None
  activation: str = "squared_relu"
  gated: bool = False
  norm: str = "layer"
  qk_norm: str = "none"
  gate: str = "tanh"
  dense: bool = True
  previous: bool = False
  epsilon: float = 1e-5
  dtype: Any = "float32"
  attention: str | None = None

  @property
  def at(self) -> tuple[int, ...]:
    """The language model's blocks before which the gated ones stand."""
    return places(self.layers, self.every, self.placement)

  @property
  def depth(self) -> int:
    """How many gated blocks there are."""
    return len(self.at)

  def setup(self):
    if self.project:
      self.into = Linear((self.width,), (None, Axis.EMBED), FAN_IN(1.0), False, self.dtype, name="project")
    block = GatedBlock(
      self.width, self.heads, self.head_dim or self.width // self.heads, self.mlp or 4 * self.width, self.activation,
      self.gated, self.norm, self.qk_norm, self.gate, self.dense, self.epsilon, self.dtype, self.attention,
      parent=None,
    )  # fmt: skip
    self.blocks = GatedBlocks(block, self.depth)

  def __call__(
    self,
    visual: Float[Array, "b n s e"] | None,
    phi: Int[Array, "b t"],
    first: Int[Array, "b t"] | None = None,
    memory: Pair | None = None,
  ) -> Insert:
    """What a decoder runs between its blocks for these media.

    Args:
      visual: the tokens of each medium, of which each layer makes its keys and values when it runs; n may be 0.
      phi: the medium of each row, from 1; 0: none.
      first: the first medium of each row's document; used where `previous`.
      memory: in place of `visual`, what `remember` gave for it.
    """
    seen = None if visual is None else self._projected(visual)
    block, params = self._blocks(seen)
    first = (jnp.ones_like(phi) if first is None else first) if self.previous else None

    def apply(params: Any, x: Float[Array, "b t d"], pair: Pair | None) -> Float[Array, "b t d"]:
      return block.apply({"params": params}, x, seen, phi, first, pair)

    return Insert(self.at, params, apply, memory)

  def remember(
    self, visual: Float[Array, "b n s e"]
  ) -> tuple[Float[Array, "l b n s k c"], Float[Array, "l b n s k c"]]:
    """Keys and values of the visual tokens in all layers."""
    seen = self._projected(visual)
    block, params = self._blocks(seen)
    return jax.vmap(lambda p: block.apply({"params": p}, seen, method="keys_values"))(params)

  def weights(
    self, layer: int, x: Float[Array, "b t d"], visual: Float[Array, "b n s e"], phi: Int[Array, "b t"]
  ) -> Float[Array, "b k t s"]:
    """What rows x before a gated layer give to the visual tokens of their media."""
    seen = self._projected(visual)
    block, params = self._blocks(seen)
    own = jax.tree.map(lambda p: p[layer], params)
    return block.apply({"params": own}, x, seen, phi, method="weights")

  def _projected(self, visual: Float[Array, "b n s e"]) -> Float[Array, "b n s c"]:
    return self.into(visual) if self.project else visual

  def _blocks(self, visual: Float[Array, "b n s e"] | None) -> tuple[nn.Module, Any]:
    return self.blocks(jnp.zeros((1, 1, self.width)), visual, jnp.ones((1, 1), jnp.int32))

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Float[Array, "b n s e"], Int[Array, "b t"]]:
    """What the module takes, for `init`."""
    return jnp.zeros((batch, 1, 2, self.visual_width)), jnp.ones((batch, 4), jnp.int32)


def places(layers: int, every: int = 1, placement: str = "first") -> tuple[int, ...]:
  """The blocks of a language model before which gated ones stand; see GatedXattn.

  Raises:
    ValueError: an unknown placement, or one that leaves none.
  """
  config.choose("placement of cross-attention", placement, PLACEMENTS)
  if not 1 <= every <= layers:
    raise ValueError(f"cross-attention before every {every} of {layers} blocks; legal: 1 to {layers}")
  return {
    "first": tuple(range(0, layers, every)),
    "last": tuple(range(every - 1, layers, every)),
    "middle": (layers // 2,),
  }[placement]


VARIANTS: dict[str, dict[str, Any]] = {
  "test": dict(visual_width=32, width=32, layers=4, heads=4, every=2),
  "flamingo-3b": dict(visual_width=1536, width=2048, layers=24, heads=16, project=True),
  "flamingo-9b": dict(visual_width=1536, width=4096, layers=32, heads=32, every=4, project=True),
  "flamingo-9b-table4": dict(visual_width=1536, width=4096, layers=40, heads=32, every=4, project=True),
  "flamingo-80b": dict(visual_width=1536, width=8192, layers=80, heads=64, every=7, project=True),
}
"""Of table 5; table 4 counts 40 layers for the 9-billion model, 8 of whose 10 gated blocks table 5 counts."""


def build(variant: str | None = None, **overrides: Any) -> GatedXattn:
  """The gated blocks of a variant, upper and lower case alike, with some fields overridden.

  Raises:
    ValueError: an unknown variant or field, with the nearest name, or blocks that stand nowhere.
  """
  model = variants.make(GatedXattn, variant, VARIANTS, overrides)
  if model.head_dim is None and model.width % model.heads:
    raise ValueError(f"heads = {model.heads} does not divide width = {model.width}; set head_dim")
  places(model.layers, model.every, model.placement)
  return model
