"""Parameter trees by name: paths, strict regex splits, stacked and unstacked layers.

A subtree under the key `blocks` is a stack of equal layers: its leaves carry the layer axis first. Users never see
the stack in names: `image/blocks/mlp/up/kernel` of shape [12, d, m] is known as `image/blocks/0/mlp/up/kernel` to
`image/blocks/11/mlp/up/kernel`, and a regex may match some layers and not others.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

STACK = "blocks"
"""The key below which leaves carry a leading layer axis."""


def path(keys: tuple) -> str:
  """The slash-separated name of a key path from `jax.tree_util`."""
  return jax.tree_util.keystr(keys, simple=True, separator="/")


def flatten(tree: Any) -> dict[str, Any]:
  """Leaf name to leaf, stacks left as they are."""
  return {path(keys): leaf for keys, leaf in jax.tree.leaves_with_path(tree)}


def unflatten(flat: dict[str, Any]) -> dict:
  """The nested dict of slash-separated names; the inverse of `flatten` for nested dicts."""
  tree: dict = {}
  for name, leaf in flat.items():
    *parents, last = name.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = leaf
  return tree


def layer_names(name: str, leaf: Any) -> tuple[str, ...]:
  """The unstacked names of one leaf: itself, or one name per layer of a stack."""
  parts = name.split("/")
  if STACK not in parts:
    return (name,)
  at = parts.index(STACK) + 1
  if at < len(parts) and parts[at].isdigit():
    return (name,)
  return tuple("/".join([*parts[:at], str(i), *parts[at:]]) for i in range(leaf.shape[0]))


def unstack(tree: Any) -> dict[str, Any]:
  """Unstacked name to array, one entry per layer of each stack."""
  flat = {}
  for name, leaf in flatten(tree).items():
    names = layer_names(name, leaf)
    flat.update([(name, leaf)] if names == (name,) else zip(names, leaf, strict=True))
  return flat


def stack(flat: dict[str, Any]) -> dict:
  """The nested, stacked tree of unstacked names; the inverse of `unstack`.

  Raises:
    ValueError: a stack lacks a layer.
  """
  leaves: dict[str, Any] = {}
  layers: dict[str, dict[int, Any]] = {}
  for name, leaf in flat.items():
    found = re.fullmatch(rf"((?:.*/)?{STACK})/(\d+)/(.*)", name)
    if found:
      layers.setdefault(f"{found[1]}/{found[3]}", {})[int(found[2])] = leaf
    else:
      leaves[name] = leaf
  for name, by_index in layers.items():
    missing = sorted(set(range(max(by_index) + 1)) - set(by_index))
    if missing:
      raise ValueError(f"{name}: layers {missing} are missing; found {sorted(by_index)}")
    ordered = [by_index[i] for i in range(len(by_index))]
    use = np if all(isinstance(x, np.ndarray) for x in ordered) else jnp
    leaves[name] = use.stack(ordered)
  return unflatten(leaves)


@dataclasses.dataclass(frozen=True)
class Split:
  """Which leaves, or layers of stacked leaves, are live; static, made once from names and shapes.

  `live` and `held` cut a tree of the same structure in two, with None where a leaf is wholly on the other side and
  only the matching layers where a stack is cut; `merge` puts the two together again.
  """

  mask: Any
  """The tree with a boolean array per leaf, of shape [] or, for a stack, [layers]."""

  def live(self, tree: Any) -> Any:
    return jax.tree.map(lambda m, x: _part(m, x), self.mask, tree)

  def held(self, tree: Any) -> Any:
    return jax.tree.map(lambda m, x: _part(~m, x), self.mask, tree)

  def per_layer(self, tree: Any, value: Callable[[str], Any]) -> Any:
    """`value(unstacked name)` for each live leaf; for a stack, the array of its live layers' values.

    Args:
      tree: the whole one, since layers are named by their place in it.
    """

    def of(keys, mask, leaf):
      if not np.any(mask):
        return None
      name = path(keys)
      if not mask.ndim:
        return value(name)
      return np.array([value(n) for n, live in zip(layer_names(name, leaf), mask, strict=True) if live])

    return jax.tree.map_with_path(of, self.mask, tree)

  def merge(self, live: Any, held: Any) -> Any:
    return jax.tree.map(_join, self.mask, live, held, is_leaf=lambda x: x is None)

  def __invert__(self) -> "Split":
    return Split(jax.tree.map(np.logical_not, self.mask))

  def __or__(self, other: "Split") -> "Split":
    return Split(jax.tree.map(np.logical_or, self.mask, other.mask))


def pattern(regex: str, where: str = "") -> re.Pattern:
  """The compiled regex of a config.

  Args:
    where: the key that holds it, which errors name.

  Raises:
    ValueError: it is no regular expression; names it and the fault.
  """
  try:
    return re.compile(regex)
  except re.error as error:
    raise ValueError(f"{where and f'{where}: '}the regex {regex!r} is no regular expression: {error}") from error


def split(tree: Any, regex: str) -> Split:
  """The split whose live side is every leaf or layer whose unstacked name fully matches `regex`.

  Raises:
    ValueError: nothing matches, or `regex` is none.
  """
  compiled = pattern(regex)

  def match(keys, leaf):
    name = path(keys)
    hits = np.array([compiled.fullmatch(n) is not None for n in layer_names(name, leaf)])
    return hits if layer_names(name, leaf) != (name,) else hits[0]

  mask = jax.tree.map_with_path(match, tree)
  if not any(np.any(m) for m in jax.tree.leaves(mask)):
    some = ", ".join(list(_all_names(tree))[:5])
    raise ValueError(f"the regex {regex!r} matches no parameter; the names begin: {some}")
  return Split(mask)


def broadcast_layers(value: Any, leaf: Any) -> Any:
  """A per-layer vector shaped to multiply its stacked leaf; scalars pass through."""
  value = np.asarray(value)
  return value.reshape(value.shape + (1,) * (leaf.ndim - value.ndim)) if value.ndim else value


def count(tree: Any) -> int:
  """The number of numbers in a tree of arrays or shapes."""
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def size(tree: Any) -> int:
  """The number of bytes in a tree of arrays or shapes."""
  return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _all_names(tree: Any) -> Iterator[str]:
  for name, leaf in flatten(tree).items():
    yield from layer_names(name, leaf)


def _part(mask: np.ndarray, x: Any) -> Any:
  if not np.any(mask):
    return None
  if np.all(mask):
    return x
  index = np.flatnonzero(mask)
  if isinstance(x, jax.ShapeDtypeStruct):
    return x.update(shape=(len(index), *x.shape[1:]))
  return x[_as_slice(index)]


def _join(mask: np.ndarray, live: Any, held: Any) -> Any:
  if live is None or held is None:
    return held if live is None else live
  order = np.argsort(np.concatenate([np.flatnonzero(~mask), np.flatnonzero(mask)]))
  joined = jnp.concatenate([held.astype(live.dtype), live])
  return joined if np.array_equal(order, np.arange(len(order))) else joined[order]


def _as_slice(index: np.ndarray) -> Any:
  first, last = int(index[0]), int(index[-1])
  return slice(first, last + 1) if last - first + 1 == len(index) else index
