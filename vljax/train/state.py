"""The state of a run, made sharded: no device ever holds all of it."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
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
    params: all parameters, the frozen ones in the dtype that their modules compute in (float32 on CPU).
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
  """What is known of a recipe's state before it exists: names, logical axes, compute dtypes, splits.

  Attributes:
    params: shapes and dtypes of the parameters.
    computed: path of a module to the dtype that it computes in, of those that say so and of the outermost (else
      float32); empty where `init` calls no module.
    splits: optimiser slot to its split of the parameters.
    trained: the split whose live side some phase trains; the held side is frozen.
  """

  def __init__(self, recipe: Recipe, batch: Batch):
    boxed, self.computed = _trace(recipe, batch)
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

  def frozen_dtype(self, name: str, narrowest: Any) -> Any:
    """What a frozen leaf is stored as: the wider of `narrowest` and of what its module computes in.

    A leaf of a module that names no dtype, nor does one around it, stays float32; without modules it is `narrowest`.
    """
    if not self.computed:
      return narrowest
    *_, found = (self.computed[path] for path in _heads(name) if path in self.computed)
    return jnp.promote_types(narrowest, found)

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
    frozen_dtype: the narrowest that leaves which no phase trains are stored as; see `Layout.frozen_dtype`.
  """
  params, extras = meta.unbox(recipe.init(jax.random.fold_in(rng, 0), batch))
  store = lambda keys, x: _cast(x, layout.frozen_dtype(tree.path(keys), frozen_dtype))
  params = jax.tree.map_with_path(lambda k, x, mask: x if np.any(mask) else store(k, x), params, layout.trained.mask)
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


def _trace(recipe: Recipe, batch: Batch) -> tuple[Any, dict[str, Any]]:
  """(shapes of what `init` makes, Layout.computed).

  What is called with a root of its own, as the blocks of a stack are, counts as what is around it.
  """
  found: dict[str, list[Any]] = {}
  roots: list[Any] = []

  def note(method, args, kwargs, context):
    module = context.module
    roots.append(None if module.scope is None else module.scope.root)
    if roots[-1] is not None and roots[-1] is roots[0]:
      dtype = getattr(module, "dtype", None)
      found.setdefault("/".join(map(str, module.path)), []).extend([] if dtype is None else [dtype])
    try:
      return method(*args, **kwargs)
    finally:
      roots.pop()

  with nn.intercept_methods(note):  # a new function: one that was traced before would call no method
    boxed = jax.eval_shape(lambda rng, batch: recipe.init(rng, batch), jax.random.key(0), batch)
  dtypes = {path: functools.reduce(jnp.promote_types, several) for path, several in found.items() if several}
  return boxed, {"": jnp.float32, **dtypes} if found else {}


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


def _heads(name: str) -> list[str]:
  """The paths above a leaf, the outermost, which is empty, first."""
  parts = name.split("/")
  return ["/".join(parts[:i]) for i in range(len(parts))]
