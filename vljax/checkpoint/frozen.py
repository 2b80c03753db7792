"""Leaves that never change: written once per run, named by their hash in every later step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from vljax import tree as tree_lib
from vljax.checkpoint import files, packing, storage
from vljax.checkpoint.steps import steps
from vljax.parallel import processes

NAME = "frozen"


@dataclasses.dataclass(frozen=True)
class Frozen:
  """The frozen leaves of a run: where they lie, their index, and its hash."""

  folder: epath.Path
  leaves: packing.Index

  @property
  def hash(self) -> str:
    """The SHA-256 of names, shapes, dtypes and checksums."""
    return files.digest(self.leaves)


def write(folder: epath.Path, tree: Any) -> Frozen:
  """Write a tree's leaves to FOLDER/frozen, unless they are there; those of a start that saved no step are replaced.

  Raises:
    ValueError: other leaves are there, to which steps refer, or the tree has none.
  """
  arrays, index = packing.pack(tree)
  if not index:
    raise ValueError("save_frozen was given no leaves")
  new = Frozen(folder / NAME, storage.with_sums(arrays, index))
  if new.folder.exists():
    try:
      old = read(folder)
    except files.Damaged as error:
      logging.warning("writing the frozen leaves again: %s", error)
      processes.first(lambda: new.folder.rename(folder / f"{NAME}.damaged"))
    else:
      if old.hash == new.hash:
        return old
      if not processes.agree(not steps(folder)):
        changed = [name for name in {**old.leaves, **new.leaves} if old.leaves.get(name) != new.leaves.get(name)]
        raise ValueError(
          f"{new.folder} holds other frozen leaves than this run: {', '.join(changed[:4])} differ"
          f"{' and others' if changed[4:] else ''}; legal: the same leaves, or a new workdir"
        )
      logging.warning("%s: no step refers to the frozen leaves of an earlier start; they are replaced", new.folder)
      processes.first(new.folder.rmtree)
  # Beside the steps Orbax's manager sweeps temporary folders away while it starts, this one too.
  staged = folder.parent / f"{NAME}.partial"
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
    writer.save(staged, args=storage.args(arrays, new.leaves), force=True)
  processes.first(lambda: _publish(staged, new.folder))
  return new


def _publish(staged: epath.Path, folder: epath.Path) -> None:
  files.record(staged, storage.ITEMS)
  staged.rename(folder)


def read(folder: epath.Path, expected: str | None = None) -> Frozen:
  """The frozen leaves' index.

  Raises:
    Damaged: it cannot be read, or has another hash than a step expects.
  """
  found = Frozen(folder / NAME, storage.read_index(folder / NAME)["leaves"])
  if expected not in (None, found.hash):
    raise files.Damaged(f"{found.folder} has the hash {found.hash[:12]}; the step refers to {expected[:12]}")
  return found


def as_stored(tree: Any, leaves: packing.Index) -> Any:
  """The tree to restore with frozen leaves of floats in their stored dtype: accelerators have others than CPU."""

  def leaf(keys, x):
    dtype = jnp.dtype(leaves.get(tree_lib.path(keys), {}).get("dtype", bool))
    if not all(jnp.issubdtype(one, jnp.floating) for one in (dtype, getattr(x, "dtype", bool))) or x.dtype == dtype:
      return x
    if isinstance(x, np.ndarray | np.generic):
      return x.astype(dtype)
    return jax.ShapeDtypeStruct(x.shape, dtype, sharding=getattr(x, "sharding", None))

  return jax.tree.map_with_path(leaf, tree)
