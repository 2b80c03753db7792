"""The way of host data onto the mesh, and of small results back."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vljax.parallel import rules as rules_lib
from vljax.types import Batch


def batch_sharding(mesh: Mesh, rules: Mapping[str, rules_lib.MeshAxes] = rules_lib.DEFAULT) -> NamedSharding:
  """Where a batch lies: its first axis over the mesh axes of the logical axis `batch`."""
  return NamedSharding(mesh, rules_lib.spec((rules_lib.Axis.BATCH,), rules_lib.check(mesh, rules)))


def share(mesh: Mesh, rules: Mapping[str, rules_lib.MeshAxes] = rules_lib.DEFAULT) -> tuple[int, int]:
  """(index, count): which part of each global batch this process loads, out of how many equal parts.

  Usually (process index, process count). Processes that hold the same rows, since a tensor axis spans them, load the
  same part.

  Raises:
    ValueError: the rows of two processes overlap in part.
  """
  where = batch_sharding(mesh, rules)
  rows = where.num_devices
  owned: dict[int, set[int]] = {}
  for device, (part, *_) in where.devices_indices_map((rows,)).items():
    owned.setdefault(device.process_index, set()).update(range(*part.indices(rows)))
  parts = sorted({tuple(sorted(own)) for own in owned.values()})
  if sum(map(len, parts)) != rows or len({len(part) for part in parts}) > 1:
    raise ValueError(
      f"the mesh {dict(mesh.shape)} gives the {len(owned)} processes overlapping parts of a batch: {parts} of {rows}; "
      "legal: a tensor axis within one process, or over whole processes"
    )
  return parts.index(tuple(sorted(owned[jax.process_index()]))), len(parts)


def to_global(
  batch: Mapping[str, np.ndarray], mesh: Mesh, rules: Mapping[str, rules_lib.MeshAxes] = rules_lib.DEFAULT
) -> Batch:
  """Global arrays of the rows that each process holds, sharded on the first axis.

  Raises:
    ValueError: a field is not numeric, has no rows, another number of rows than the rest, or one that the mesh does
      not divide.
  """
  where = batch_sharding(mesh, rules)
  _, parts = share(mesh, rules)
  ways = len({(part.start, part.stop) for part, *_ in where.devices_indices_map((where.num_devices,)).values()})
  rows = {name: np.shape(value)[:1] for name, value in batch.items()}
  if len(set(rows.values())) > 1 or () in rows.values():
    raise ValueError(f"the fields of a batch differ in their number of rows: {rows}")
  arrays = {}
  for name, value in batch.items():
    value = np.asarray(value)
    if value.dtype.kind in "OSUV" and value.dtype.name not in _NUMERIC:
      raise ValueError(f"field {name!r} of the batch has dtype {value.dtype}; legal: numbers and booleans")
    shape = (len(value) * parts, *value.shape[1:])
    if shape[0] % ways:
      raise ValueError(f"the batch has {shape[0]} rows; legal: multiples of {ways} on the mesh {dict(mesh.shape)}")
    arrays[name] = jax.make_array_from_process_local_data(where, value, shape)
  return arrays


def replicate(tree: Any, mesh: Mesh) -> Any:
  """The same host values on every device; each process must bring equal ones."""
  where = NamedSharding(mesh, PartitionSpec())
  put = lambda x: jax.make_array_from_process_local_data(where, np.asarray(x), np.shape(x))
  return jax.tree.map(put, tree)


def to_host(tree: Any) -> Any:
  """Small results as numpy arrays, whole on every process; all processes must call this together."""

  def fetch(x):
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
      return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))

  return jax.tree.map(fetch, tree)


_NUMERIC = frozenset({"bfloat16"})
"""Numeric types that numpy itself does not know (their kind is V)."""
