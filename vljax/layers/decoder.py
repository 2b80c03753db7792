"""Blocks of decoders: attention to what came before with positions and a cache, and stacks that others join."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vljax import config, parallel
from vljax.layers import position
from vljax.layers.attention import Attention
from vljax.layers.block import Layers
from vljax.layers.mlp import Mlp
from vljax.layers.norm import LayerNorm, RmsNorm
from vljax.ops.attention import Cache, attention
from vljax.parallel import Axis
from vljax.types import Params

NORMS: dict[str, Callable[..., nn.Module]] = {
  "layer": LayerNorm,
  "layer_without_bias": functools.partial(LayerNorm, use_bias=False),
  "rms": RmsNorm,
}
RESIDUALS = dict.fromkeys(("pre", "post", "parallel"))


class Places(NamedTuple):
  """Where the tokens of a call stand, the same for all layers.

  Attributes:
    masks: of `ops.attention`.
    rotary: cosines and sines of `position.rotary_table`.
    bias: of the scores, as ALiBi has it.
    sinusoids: of the distances 0, 1, ... of Transformer-XL.
    slots: of a cache, for each token.
  """

  masks: Mapping[str, Any]
  rotary: tuple[Float[Array, "b t r"], Float[Array, "b t r"]] | None = None
  bias: Float[Array, "b k 1 s"] | None = None
  sinusoids: Float[Array, "s d"] | None = None
  slots: Int[Array, "b t"] | None = None


@dataclasses.dataclass(frozen=True)
class Insert:
  """Layers of others that run before some blocks of a stack: x = apply(params[i], x, xs[i]) before block at[i].

  Attributes:
    at: numbers of blocks, ascending.
    params: a tree of arrays with a leading axis as long as `at`.
    apply: (params of one, x [b t d], xs of one) -> x.
    xs: a further such tree, or None.
  """

  at: tuple[int, ...]
  params: Params
  apply: Callable[[Params, Float[Array, "b t d"], Any], Float[Array, "b t d"]]
  xs: Any = None


class DecoderAttention(Attention):
  """Self-attention of a decoder; fields of Attention and

  Attributes:
    interleaved: of `position.rotate`.
    qk_norm: queries and keys, over all heads at once, go through layer norms without biases (MPT-1b).
    relative: Transformer-XL's scores (arXiv 1901.02860, section 3.3): scale * ((q_i + u) k_j + (q_i + v) W r_(i-j)),
      with u and v of each layer its own.
    epsilon: of the norms.
  """

  interleaved: bool = False
  qk_norm: bool = False
  relative: bool = False
  epsilon: float = 1e-5

  @nn.compact
  def __call__(
    self, x: Float[Array, "b t d"], cache: Cache | None, layer: int | Int[Array, ""], places: Places
  ) -> tuple[Float[Array, "b t d"], Cache | None]:
    """Attends to x and to what the cache holds of this layer; the cache comes back with x's keys and values."""
    query, key, value = self._projected(x, x)
    if self.qk_norm:
      query, key = self._normed("query_norm", query), self._normed("key_norm", key)
    if places.rotary is not None:
      query, key = (position.rotate(y, places.rotary, self.interleaved) for y in (query, key))
    if cache is not None:
      cache = cache.put(layer, key, value, places.slots)
      key, value = cache.layer(layer)
    bias = places.bias
    if self.relative:
      query, bias = self._relative(query, places)
    implementation = self.implementation if cache is None else None
    y = attention(query, key, value, bias=bias, implementation=implementation, **places.masks)
    return self._out(y, x.shape[-1]), cache

  def _normed(self, name: str, x: Float[Array, "b t k d"]) -> Float[Array, "b t k d"]:
    return LayerNorm(self.epsilon, self.dtype, False, name=name)(x.reshape(*x.shape[:2], -1)).reshape(x.shape)

  def _relative(
    self, query: Float[Array, "b t k d"], places: Places
  ) -> tuple[Float[Array, "b t k d"], Float[Array, "b k t s"]]:
    heads, dim = query.shape[2:]
    init = nn.initializers.normal(places.sinusoids.shape[-1] ** -0.5)
    kernel: Any = self.param(
      "distance", nn.with_logical_partitioning(init, (Axis.EMBED, Axis.HEADS, Axis.HEAD_DIM)),
      (places.sinusoids.shape[-1], heads, dim),
    )  # fmt: skip
    zeros = nn.with_logical_partitioning(nn.initializers.zeros, (Axis.HEADS, Axis.HEAD_DIM))
    u: Any = self.param("content_bias", zeros, (heads, dim))
    v: Any = self.param("distance_bias", zeros, (heads, dim))
    keys = jnp.einsum("sd,dkc->skc", places.sinusoids.astype(self.dtype), kernel.astype(self.dtype))
    scores = jnp.einsum(
      "btkc,skc->bkts", (query + v.astype(query.dtype)) * dim**-0.5, keys, preferred_element_type=jnp.float32
    )
    return query + u.astype(query.dtype), position.by_distance(scores, places.masks.get("offset"))


class DecoderBlock(nn.Module):
  """A block of a language model.

  pre: x + attention(norm_1(x)), then x + mlp(norm_2(x)); post: norm_1(x + attention(x)), then norm_2(x + mlp(x));
  parallel: x + attention(norm_1(x)) + mlp(norm_2(x)) (GPT-NeoX).

  Attributes:
    norm: a key of NORMS.
    residual: a key of RESIDUALS.
    attention_bias, mlp_bias: whether the linear maps of either half add a bias.
    the others: as of `models.decoder.Decoder`, `Block`, and `DecoderAttention`.
  """

  heads: int
  mlp: int
  kv_heads: int | None = None
  head_dim: int | None = None
  norm: str = "layer"
  residual: str = "pre"
  activation: str = "gelu"
  gated: bool = False
  attention_bias: bool = True
  mlp_bias: bool = True
  interleaved: bool = False
  qk_norm: bool = False
  relative: bool = False
  dropout: float = 0.0
  residual_scale: float = 1.0
  epsilon: float = 1e-5
  dtype: Any = "float32"
  attention: str | None = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b t d"],
    cache: Cache | None,
    layer: int | Int[Array, ""],
    places: Places,
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b t d"], Cache | None]:
    """Runs the block, which is the `layer`th of the cache."""
    config.choose("residual of a decoder", self.residual, RESIDUALS)
    make = config.choose("norm of a decoder", self.norm, NORMS)
    norm_1, norm_2 = (make(epsilon=self.epsilon, dtype=self.dtype, name=name) for name in ("norm_1", "norm_2"))
    drop = nn.Dropout(self.dropout, deterministic=not train)
    attend = DecoderAttention(
      self.heads, self.head_dim, self.kv_heads, self.attention_bias, self.residual_scale, self.dtype, self.attention,
      False, self.interleaved, self.qk_norm, self.relative, self.epsilon, name="attention",
    )  # fmt: skip
    feed = Mlp(self.mlp, self.activation, self.residual_scale, self.dtype, self.gated, self.mlp_bias, name="mlp")
    before = (lambda norm, x: x) if self.residual == "post" else (lambda norm, x: norm(x))
    after = (lambda norm, x: norm(x)) if self.residual == "post" else (lambda norm, x: x)
    y, cache = attend(before(norm_1, x), cache, layer, places)
    if self.residual == "parallel":
      x = x + drop(y) + drop(feed(norm_2(x)))
    else:
      x = after(norm_1, x + drop(y))
      x = after(norm_2, x + drop(feed(before(norm_2, x))))
    return parallel.constrain(x, Axis.BATCH, Axis.POSITION, Axis.EMBED), cache


class Run(NamedTuple):
  """`count` times: an insert, if `first` is not None (then its number), and `size` blocks from block `start` on."""

  start: int
  size: int
  count: int
  first: int | None
  held: bool


def runs(length: int, at: tuple[int, ...] = (), held: int = 0) -> list[Run]:
  """How a stack of `length` blocks runs with inserts before some: groups of equal size are one run.

  Raises:
    ValueError: `at` is not ascending, or names no block.
  """
  if any(a >= b for a, b in itertools.pairwise(at)) or (at and not 0 <= at[0] <= at[-1] < length):
    raise ValueError(f"inserts before blocks {at} of {length}; legal: ascending numbers from 0 to {length - 1}")
  found: list[Run] = []
  for start, end in itertools.pairwise(sorted({0, length, held, *at})):
    run = Run(start, end - start, 1, at.index(start) if start in at else None, end <= held)
    last = found[-1] if found else None
    if last and run.first is not None and last.first is not None and (last.size, last.held) == (run.size, run.held):
      found[-1] = last._replace(count=last.count + 1)
    else:
      found.append(run)
  return found


class DecoderStack(Layers):
  """Decoder blocks in a row, run by scans, with the layers of an `Insert` between them.

  Where all blocks are held, each reads its weights from the stack when it runs: a cut of the stack would be a copy.
  """

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b t d"],
    places: Places,
    cache: Cache | None = None,
    insert: Insert | None = None,
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b t d"], Cache | None]:
    """Runs all blocks.

    Raises:
      ValueError: an unknown remat policy, more held layers than there are, parameters of another depth, or inserts
        that do not fit.
    """
    block, params, keys = self._open(train, x, None, 0, places)
    if self.held == self.length:
      params = jax.lax.stop_gradient(params)

    def layer(carry, xs):
      number, own, key = xs
      x, cache = carry
      own = jax.tree.map(lambda p: p[number], params) if own is None else own
      rngs = None if key is None else {"dropout": key}
      return block.apply({"params": own}, x, cache, number, places, train=train, rngs=rngs), None

    def group(carry, xs, size: int):
      blocks, mine = xs
      if mine is not None:
        carry = (inserted(carry[0], mine), carry[1])
      return jax.lax.scan(layer, carry, blocks, unroll=min(unroll, size))

    inserted = self._saving(lambda x, mine: insert.apply(mine[0], x, mine[1]))
    layer, unroll = self._saving(layer), self._unroll(params)
    carry = (x, cache)
    for run in runs(self.length, insert.at if insert else (), self.held):
      stop, last = run.start + run.size * run.count, (run.first or 0) + run.count
      cut = lambda p, run=run, stop=stop: p[run.start : stop].reshape(run.count, run.size, *p.shape[1:])
      own = None if self.held == self.length else jax.tree.map(cut, params)
      own = jax.lax.stop_gradient(own) if run.held else own
      blocks = (cut(jnp.arange(self.length)), own, jax.tree.map(cut, keys))
      mine = None
      if run.first is not None:
        mine = jax.tree.map(lambda p, run=run, last=last: p[run.first : last], (insert.params, insert.xs))
      body = functools.partial(group, size=run.size)
      if run.count == 1:
        carry, _ = body(carry, jax.tree.map(lambda p: p[0], (blocks, mine)))
      else:
        carry, _ = jax.lax.scan(body, carry, (blocks, mine), unroll=min(max(1, unroll // run.size), run.count))
    return carry
