"""The state of a run, made sharded: no device ever holds all of it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.core import meta
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vljax import parallel, tree
from vljax.parallel.rules import MeshAxes
from vljax.train.optim import Optimiser
from vljax.train.recipe import Recipe
from vljax.types import Array, Batch, Extras, Params, Rng


class State(struct.PyTreeNode):
  """All that a step changes.

  Attributes:
    step: steps taken, skipped ones included.
    rng: the run's key; each step folds its number into it.
    params: all parameters, the frozen ones in the compute dtype.
    opt: slot name to the optimiser's state for that slot's live leaves.
    extras: batch statistics and the like.
    ema: the average of the leaves that move, or None; see `averaged`.
    skipped: steps whose update was not finite.
    streak: the last of these in a row.
  """

  step: Array
  rng: Rng
  params: Params
  opt: dict[str, Any]
  extras: Extras
  ema: Params | None
  skipped: Array
  streak: Array

  @property
  def weights(self) -> Params:
    """The parameters with the extras among them: what a recipe's `predict` functions read."""
    return {**self.params, **self.extras}

  @property
  def averaged(self) -> Params:
    """`weights` with the moving average of the parameters where there is one."""
    if self.ema is None:
      return self.weights
    pick = lambda e, p: p if e is None else e
    return {**jax.tree.map(pick, self.ema, self.params, is_leaf=lambda x: x is None), **self.extras}


class Layout:
  """What is known of a recipe's state before it exists: names, logical axes, splits.

  Attributes:
    params: shapes and dtypes of the parameters.
    splits: optimiser slot to its split of the parameters.
    trained: the split whose live side some phase trains; the held side is frozen.
  """

  def __init__(self, recipe: Recipe, batch: Batch):
    boxed = jax.eval_shape(recipe.init, jax.random.key(0), batch)
    self.axes = {name: _names(leaf) for name, leaf in _flat_boxed(boxed[0]).items()}
    self.params, self.extras = meta.unbox(boxed)
    if both := sorted(set(self.params) & set(self.extras)):
      raise ValueError(f"parameters and extras are read together and must not share names; found {both} in both")
    self.extra_axes = {name: _names(leaf) for name, leaf in _flat_boxed(boxed[1]).items()}
    self.splits = {name: tree.split(self.params, phase.trains) for name, phase in recipe.slots.items()}
    splits = list(self.splits.values())
    self.trained = splits[0]
    for other in splits[1:]:
      self.trained = self.trained | other

  def frozen(self, params: Params) -> Params:
    """The leaves of which no phase trains a layer; None for the others."""
    return jax.tree.map(lambda mask, x: None if np.any(mask) else x, self.trained.mask, params)

  def moving(self, params: Params) -> Params:
    """The leaves of which some phase trains a layer, whole; None for the others."""
    return jax.tree.map(lambda mask, x: x if np.any(mask) else None, self.trained.mask, params)


def initialise(
  recipe: Recipe,
  layout: Layout,
  optimisers: Mapping[str, Optimiser],
  rng: Rng,
  batch: Batch,
  *,
  ema: bool = False,
  frozen_dtype: Any = jnp.float32,
) -> State:
  """A fresh state; pure, to be jitted with out_shardings.

  Args:
    ema: whether to keep an average of the trained leaves.
    frozen_dtype: what leaves that no phase trains are stored as.
  """
  params, extras = meta.unbox(recipe.init(jax.random.fold_in(rng, 0), batch))
  params = jax.tree.map(lambda x, mask: x if np.any(mask) else _cast(x, frozen_dtype), params, layout.trained.mask)
  return State(
    step=jnp.zeros((), jnp.int32),
    rng=jax.random.fold_in(rng, 1),
    params=params,
    opt={slot: optimiser.init(layout.splits[slot].live(params)) for slot, optimiser in optimisers.items()},
    extras=extras,
    ema=jax.tree.map(lambda x: jnp.array(x, jnp.float32), layout.moving(params)) if ema else None,
    skipped=jnp.zeros((), jnp.int32),
    streak=jnp.zeros((), jnp.int32),
  )


def shardings(state: State, layout: Layout, mesh: Mesh, rules: Mapping[str, MeshAxes]) -> State:
  """Where each leaf of an abstract state lies: optimiser slots and averages beside their parameters."""

  def place(keys, leaf):
    axes = layout.axes | layout.extra_axes
    name = tree.path(keys)
    found = next((axes[tail] for tail in _tails(name) if tail in axes), None)
    if found is None or len(found) != len(leaf.shape) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return NamedSharding(mesh, PartitionSpec())
    return parallel.sharding(mesh, rules, found, leaf.shape)

  return jax.tree.map_with_path(place, state)


def make(
  recipe: Recipe,
  layout: Layout,
  optimisers: Mapping[str, Optimiser],
  rng: Rng,
  batch: Batch,
  mesh: Mesh,
  rules: Mapping[str, MeshAxes],
  **options: Any,
) -> tuple[State, State]:
  """The fresh sharded state and its shardings; `options` as of `initialise`."""

  def init(rng):
    return initialise(recipe, layout, optimisers, rng, batch, **options)

  where = shardings(jax.eval_shape(init, rng), layout, mesh, rules)
  return jax.jit(init, out_shardings=where)(rng), where


def _cast(x: Array, dtype: Any) -> Array:
  return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _is_box(x: Any) -> bool:
  return isinstance(x, meta.AxisMetadata)


def _flat_boxed(boxed: Any) -> dict[str, Any]:
  return {tree.path(keys): leaf for keys, leaf in jax.tree.leaves_with_path(boxed, is_leaf=_is_box)}


def _names(leaf: Any) -> tuple[str | None, ...] | None:
  return tuple(leaf.names) if isinstance(leaf, meta.Partitioned) else None


def _tails(name: str) -> list[str]:
  parts = name.split("/")
  return ["/".join(parts[i:]) for i in range(len(parts))]
