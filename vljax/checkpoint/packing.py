"""Trees of state as flat dicts that can be stored, and back.

A stored tree is a set of named arrays and an index that says what they are: so a checkpoint does not depend on the
classes that held it, and can be read without them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from vljax import tree as tree_lib

Index = dict[str, dict[str, Any]]
"""Leaf name to {shape, dtype} of an array, {..., key: implementation} of random keys, {value} of a Python scalar."""

SCALARS = (bool, int, float, str)


def pack(tree: Any) -> tuple[dict[str, Any], Index]:
  """(arrays by name, index of all leaves) of a tree of arrays, typed random keys and Python scalars; None is no leaf.

  Raises:
    ValueError: a leaf of another type, or two leaves of one name.
  """
  arrays: dict[str, Any] = {}
  index: Index = {}
  for keys, leaf in jax.tree.leaves_with_path(tree):
    name = tree_lib.path(keys)
    if name in index:
      raise ValueError(f"two leaves of the state have the name {name!r}")
    index[name] = entry = describe(name, leaf)
    if "key" in entry:
      arrays[name] = jax.random.key_data(leaf)
    elif "value" not in entry:
      arrays[name] = leaf
  return arrays, index


def describe(name: str, leaf: Any) -> dict[str, Any]:
  """The index entry of a leaf, given as an array, an abstract array or a Python scalar."""
  if isinstance(leaf, SCALARS) and not isinstance(leaf, np.generic):
    return {"value": leaf}
  if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
    raise ValueError(
      f"leaf {name!r} is of type {type(leaf).__name__}; legal: arrays, random keys, bool, int, float, str"
    )
  if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    data, implementation = _key_data(leaf)
    return {"shape": list(data.shape), "dtype": str(data.dtype), "key": implementation}
  return {"shape": list(leaf.shape), "dtype": np.dtype(leaf.dtype).name}


def compare(found: Index, expected: Index, where: str) -> None:
  """Check that a stored index has the leaves that a tree needs.

  Raises:
    ValueError: names leaves that are missing, extra, or of another shape, dtype or kind, as found and as expected.
  """
  problems = [f"{name} is missing (expected {_text(expected[name])})" for name in expected if name not in found]
  problems += [f"{name} is not expected (found {_text(found[name])})" for name in found if name not in expected]
  for name in expected:
    if name in found and _kind(found[name]) != _kind(expected[name]):
      problems.append(f"{name} is {_text(found[name])}, expected {_text(expected[name])}")
  if problems:
    more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
    raise ValueError(f"{where} holds another tree than the model needs: {'; '.join(problems[:8])}{more}")


def targets(tree: Any, names: Iterable[str]) -> dict[str, Any]:
  """The abstract stored array, with sharding, of each named leaf of an abstract (or real) tree; numpy stays numpy."""
  leaves = tree_lib.flatten(tree)
  return {name: _target(name, leaves[name]) for name in names}


def placed(name: str, entry: Mapping[str, Any], sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
  """The abstract stored array of an index entry.

  Raises:
    ValueError: the sharding does not fit its shape.
  """
  shape = tuple(entry["shape"])
  try:
    sharding.shard_shape(shape)
  except (ValueError, IndexError) as error:  # the latter for a spec longer than the shape
    raise ValueError(f"leaf {name!r} of shape {list(shape)} cannot be laid out as {sharding}: {error}") from error
  return jax.ShapeDtypeStruct(shape, jax.numpy.dtype(entry["dtype"]), sharding=sharding)


def unpack(tree: Any, arrays: Mapping[str, Any], index: Index) -> Any:
  """The tree of the structure of `tree` whose leaves are the stored ones."""

  def leaf(keys, abstract):
    name = tree_lib.path(keys)
    entry = index[name]
    if "value" in entry:
      return entry["value"]
    if "key" in entry:
      return jax.random.wrap_key_data(arrays[name], impl=entry["key"])
    return arrays[name] if not isinstance(abstract, np.generic) else arrays[name][()]

  return jax.tree.map_with_path(leaf, tree)


def _target(name: str, leaf: Any) -> Any:
  entry = describe(name, leaf)
  if isinstance(leaf, np.ndarray | np.generic):
    return np.empty(entry["shape"], leaf.dtype)
  sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  if "key" in entry and isinstance(leaf, jax.Array):
    sharding = jax.random.key_data(leaf).sharding
  return placed(name, entry, sharding)


def _key_data(keys: Any) -> tuple[jax.ShapeDtypeStruct, str]:
  """The shape of the data of (abstract) random keys, and the name of their implementation."""
  implementations = []

  def data(keys):
    implementations.append(str(jax.random.key_impl(keys)))
    return jax.random.key_data(keys)

  return jax.eval_shape(data, jax.ShapeDtypeStruct(keys.shape, keys.dtype)), implementations[0]


def _kind(entry: Mapping[str, Any]) -> tuple:
  if "value" in entry:
    return (type(entry["value"]).__name__,)
  return (tuple(entry["shape"]), entry["dtype"], entry.get("key"))


def _text(entry: Mapping[str, Any]) -> str:
  if "value" in entry:
    return f"the {type(entry['value']).__name__} {entry['value']!r}"
  keys = f" keys of {entry['key']}" if "key" in entry else ""
  return f"{entry['dtype']}{entry['shape']}{keys}"
