"""The transformer block, and a stack of equal ones run by a scan."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax import config, parallel
from vljax.layers.attention import Attention
from vljax.layers.mlp import Mlp
from vljax.layers.norm import LayerNorm
from vljax.parallel import Axis
from vljax.types import Params, Rng

REMAT = {
  "none": None,
  "full": jax.checkpoint_policies.nothing_saveable,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "dots_and_attention": jax.checkpoint_policies.dots_saveable,
}
"""What the backward pass finds saved: everything, nothing but block inputs, projections, projections and scores."""

UNROLLED = 2**26
"""Bytes of parameters up to which a stack has no loop on CPUs: a loop copies what it saves for the backward pass
(width 256, 6 layers: a step took 1.5 times as long), unrolled layers copy their slices of the weights (ViT-B/32: so
did that)."""


class Block(nn.Module):
  """x + attention(norm_1(x)), then x + mlp(norm_2(x)) (pre-norm; GPT-2, ViT, CLIP).

  Attributes:
    mlp: hidden width of the feed-forward half.
    residual_scale: what the initial standard deviations of the two maps into the residual stream are multiplied by.
    epsilon: of the norms.
    attention: implementation of `ops.attention`; None picks.
    bias_kv: of `Attention`.
  """

  heads: int
  mlp: int
  activation: str = "gelu"
  dropout: float = 0.0
  residual_scale: float = 1.0
  epsilon: float = 1e-5
  dtype: Any = "float32"
  attention: str | None = None
  bias_kv: bool = False

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b t d"],
    *,
    train: bool = False,
    drop_path: Float[Array, ""] | None = None,
    **masks: Any,
  ) -> Float[Array, "b t d"]:
    """Runs the block; `masks` go to `ops.attention`, dropout draws from the rng `dropout`.

    Args:
      drop_path: the probability that an example passes by a half of the block (see `Stack`); None: never.
    """
    drop = nn.Dropout(self.dropout, deterministic=not train)
    keep = lambda y: y if drop_path is None else skip(self.make_rng("dropout"), y, drop_path)
    half = {"residual_scale": self.residual_scale, "dtype": self.dtype}
    attend = Attention(self.heads, implementation=self.attention, bias_kv=self.bias_kv, name="attention", **half)
    norm = lambda name: LayerNorm(self.epsilon, dtype=self.dtype, name=name)
    x += keep(drop(attend(norm("norm_1")(x), **masks)))
    x += keep(drop(Mlp(self.mlp, self.activation, name="mlp", **half)(norm("norm_2")(x))))
    return parallel.constrain(x, Axis.BATCH, Axis.POSITION, Axis.EMBED)


class PostNormBlock(Block):
  """y = norm_1(x + attention(x)), then norm_2(y + mlp(y)) (arXiv 1706.03762; BERT); fields and parameters of Block."""

  @nn.compact
  def __call__(self, x: Float[Array, "b t d"], *, train: bool = False, **masks: Any) -> Float[Array, "b t d"]:
    """Runs the block; see Block."""
    drop = nn.Dropout(self.dropout, deterministic=not train)
    half = {"residual_scale": self.residual_scale, "dtype": self.dtype}
    attend = Attention(self.heads, implementation=self.attention, bias_kv=self.bias_kv, name="attention", **half)
    norm = lambda name: LayerNorm(self.epsilon, dtype=self.dtype, name=name)
    x = norm("norm_1")(x + drop(attend(x, **masks)))
    x = norm("norm_2")(x + drop(Mlp(self.mlp, self.activation, name="mlp", **half)(x)))
    return parallel.constrain(x, Axis.BATCH, Axis.POSITION, Axis.EMBED)


def skip(rng: Rng, x: Float[Array, "b t d"], rate: float | Float[Array, ""]) -> Float[Array, "b t d"]:
  """x with whole examples set to zero with probability `rate`, the others divided by 1 - rate (arXiv 1603.09382)."""
  kept = jax.random.bernoulli(rng, 1 - rate, (x.shape[0], 1, 1))
  return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), 0)


def call(block: nn.Module, x: Array, remat: str, **options: Any) -> Array:
  """block(x, **options), of which the backward pass finds saved what `remat` says, a key of REMAT.

  Raises:
    ValueError: an unknown remat policy.
  """
  policy = config.choose("remat policy", remat, REMAT)
  run = lambda block, x: block(x, **options)
  return run(block, x) if policy is None else nn.remat(run, policy=policy)(block, x)


class Layers(nn.Module):
  """`length` equal blocks whose parameters are stacked on a leading layer axis; how they run is the subclass's.

  Attributes:
    block: one block.
    remat: what the backward pass computes again, a key of REMAT.
    unroll: layers per iteration of the scan; `length` leaves no loop. None: no loop on CPUs if the stack's parameters
      are under UNROLLED bytes, else one layer.
    held: the first layers that are not trained: their weight gradients are neither computed nor stored.
  """

  block: nn.Module
  length: int
  remat: str = "none"
  unroll: int | None = None
  held: int = 0

  def _open(self, train: bool, *inputs: Any, **options: Any) -> tuple[nn.Module, Params, Any]:
    """(the bare block, stacked parameters, a dropout key for each layer or None); inputs are those of the block."""
    if not 0 <= self.held <= self.length:
      raise ValueError(f"held = {self.held} layers of a stack of {self.length}; legal: 0 to {self.length}")
    block = self.block.clone(parent=None, name=None)
    params = self._params(block, *inputs, **options)
    keys = jax.random.split(self.make_rng("dropout"), self.length) if train and self.has_rng("dropout") else None
    return block, params, keys

  def _saving(self, body: Callable) -> Callable:
    """A scan's body that saves for the backward pass what `remat` says."""
    policy = config.choose("remat policy", self.remat, REMAT)
    return body if policy is None else jax.checkpoint(body, policy=policy, prevent_cse=False)

  def _unroll(self, params: Params) -> int:
    small = jax.default_backend() == "cpu" and sum(p.nbytes for p in jax.tree.leaves(params)) < UNROLLED
    return self.unroll or (self.length if small else 1)

  def _params(self, block: nn.Module, *inputs: Any, **options: Any) -> Params:
    if self.is_initializing():
      keys = jax.random.split(self.make_rng("params"), self.length)
      stacked = jax.vmap(lambda key: block.init(key, *inputs, **options)["params"])(keys)
      layers = {nn.PARTITION_NAME: Axis.LAYERS}
      stacked = jax.tree.map(lambda box: box.add_axis(0, layers), stacked, is_leaf=_boxed)
      for name, value in stacked.items():
        self.put_variable("params", name, value)
    params = nn.meta.unbox(self.variables["params"])
    for leaf in jax.tree.leaves(params):
      if leaf.shape[0] != self.length:
        raise ValueError(
          f"{'/'.join(self.path)} holds parameters of {leaf.shape[0]} layers; the model has {self.length}"
        )
    return params


class Stack(Layers):
  """Blocks of (x, *, train, **masks) in a row, run by `lax.scan`.

  Attributes:
    drop_path: in training, the probability that an example passes by a half of the last block; it grows linearly
      from zero at the first (stochastic depth, arXiv 1603.09382).
  """

  drop_path: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, "b t d"], *, train: bool = False, **masks: Any) -> Float[Array, "b t d"]:
    """Runs all blocks; `masks` go to each, and each draws its own dropout.

    Raises:
      ValueError: an unknown remat policy, more held layers than there are, a drop_path of 1 or more, or parameters of
        another depth.
    """
    if not 0 <= self.drop_path < 1:
      raise ValueError(f"drop_path = {self.drop_path}; legal: 0 to below 1")
    block, params, keys = self._open(train, x)
    drops = keys is not None and self.drop_path > 0
    rates = jnp.linspace(0.0, self.drop_path, self.length) if drops else None

    def body(x, layer):
      params, key, rate = layer
      rngs = None if key is None else {"dropout": key}
      extra = {} if rate is None else {"drop_path": rate}
      return block.apply({"params": params}, x, train=train, rngs=rngs, **extra, **masks), None

    body, unroll = self._saving(body), self._unroll(params)
    for first, last in ((0, self.held), (self.held, self.length)):
      if first < last:
        layers = jax.tree.map(lambda p, f=first, n=last: p if n - f == self.length else p[f:n], (params, keys, rates))
        layers = (jax.lax.stop_gradient(layers[0]), *layers[1:]) if last == self.held else layers
        x, _ = jax.lax.scan(body, x, layers, unroll=min(unroll, last - first))
    return x


def _boxed(leaf: Any) -> bool:
  return isinstance(leaf, nn.meta.AxisMetadata)
