"""One stored tree: a folder with its arrays and an index that tells damage from difference.

FOLDER/state   the arrays (Orbax)
FOLDER/index   {"digest": sha256 of the rest, "body": {"leaves": index with checksums, ...}}
FOLDER/files.json  the files of both (checkpoint.files)
"""

from collections.abc import Mapping
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from vljax import tree as tree_lib
from vljax.checkpoint import files, packing
from vljax.checkpoint.checksum import checksums
from vljax.checkpoint.files import Damaged, seal, unseal
from vljax.parallel import processes

ITEMS = ("state", "index")


def with_sums(arrays: Mapping[str, Any], index: packing.Index) -> packing.Index:
  """The index with the checksum of each array."""
  sums = checksums(dict(arrays))
  return {name: {**entry, "sum": sums[name]} if name in sums else entry for name, entry in index.items()}


def args(arrays: Mapping[str, Any], leaves: packing.Index, **body: Any) -> ocp.args.Composite:
  """What Orbax is to write for arrays and their index (with checksums), and more JSON values beside the index."""
  items = {"index": ocp.args.JsonSave(seal({**body, "leaves": leaves}))}
  if arrays:
    items["state"] = ocp.args.StandardSave(tree_lib.unflatten(dict(arrays)))
  return ocp.args.Composite(**items)


def read_index(folder: epath.Path) -> dict[str, Any]:
  """The body of a folder's index, read by all processes or by none.

  Raises:
    Damaged: it is missing or not what was written, or so is another file of the folder.
  """
  body, problem = None, None
  try:
    body = unseal(folder / "index" / "metadata")
    files.check(folder)
  except Damaged as error:
    problem = error
  if not processes.agree(problem is None):
    raise problem or Damaged(f"{folder}: another process cannot read the index; see its log")
  return body  # type: ignore[return-value]


def read_arrays(folder: epath.Path, targets: Mapping[str, Any], leaves: packing.Index) -> dict[str, Any]:
  """The arrays of these names, laid out as their targets ask, checked against their checksums.

  All processes call this together and agree: if one cannot read, all raise.

  Raises:
    Damaged: a file cannot be read, or a leaf does not have its checksum.
  """
  arrays: dict[str, Any] = {}
  problem = None
  try:
    if targets:
      arrays = _read(folder / "state", targets)
  except (OSError, ValueError, KeyError) as error:  # not those that JAX raises when memory runs out
    problem = f"{folder / 'state'} cannot be read: {_first_line(error)}"
  if not processes.agree(problem is None):
    raise Damaged(problem or f"{folder / 'state'} cannot be read by another process; see its log")
  found = checksums(arrays)
  if bad := [name for name in targets if found[name] != leaves[name]["sum"]]:
    raise Damaged(f"{folder}: the checksum of {', '.join(bad[:4])}{' and others' if bad[4:] else ''} is wrong")
  return arrays


def _read(folder: epath.Path, targets: Mapping[str, Any]) -> dict[str, Any]:
  if not folder.exists():
    raise FileNotFoundError(f"{folder} does not exist")
  nested = tree_lib.unflatten(dict(targets))
  request = ocp.args.PyTreeRestore(
    item=nested, restore_args=ocp.checkpoint_utils.construct_restore_args(nested), partial_restore=True
  )
  handler = ocp.PyTreeCheckpointHandler()
  try:
    return tree_lib.flatten(handler.restore(folder, args=request))
  finally:
    handler.close()


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  text = lines[0] if lines else ""
  return f"{type(error).__name__}: {text[:300]}"
