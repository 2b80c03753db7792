"""One stored tree: a folder with its arrays and an index that tells damage from difference.

FOLDER/state   the arrays (Orbax)
FOLDER/index   {"digest": sha256 of the rest, "body": {"leaves": index with checksums, ...}}
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from vljax import tree as tree_lib
from vljax.checkpoint import packing
from vljax.checkpoint.checksum import checksums
from vljax.parallel import processes


class Damaged(ValueError):
  """A folder that cannot be read or does not hold what was written; names the file or the leaf."""


def with_sums(arrays: Mapping[str, Any], index: packing.Index) -> packing.Index:
  """The index with the checksum of each array."""
  sums = checksums(dict(arrays))
  return {name: {**entry, "sum": sums[name]} if name in sums else entry for name, entry in index.items()}


def args(arrays: Mapping[str, Any], leaves: packing.Index, **body: Any) -> ocp.args.Composite:
  """What Orbax is to write for arrays and their index (with checksums), and more JSON values beside the index."""
  content = json.loads(json.dumps({**body, "leaves": leaves}))
  items = {"index": ocp.args.JsonSave({"digest": digest(content), "body": content})}
  if arrays:
    items["state"] = ocp.args.StandardSave(tree_lib.unflatten(dict(arrays)))
  return ocp.args.Composite(**items)


def digest(value: Any) -> str:
  """The SHA-256 of a JSON value."""
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_index(folder: epath.Path) -> dict[str, Any]:
  """The body of a folder's index, read by all processes or by none.

  Raises:
    Damaged: it is missing, no JSON, or not what was written.
  """
  body, problem = None, None
  try:
    body = _read_index(folder / "index" / "metadata")
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
  except Exception as error:  # Orbax and TensorStore raise errors of many types
    problem = f"{folder / 'state'} cannot be read: {_first_line(error)}"
  if not processes.agree(problem is None):
    raise Damaged(problem or f"{folder / 'state'} cannot be read by another process; see its log")
  found = checksums(arrays)
  if bad := [name for name in targets if found[name] != leaves[name]["sum"]]:
    raise Damaged(f"{folder}: the checksum of {', '.join(bad[:4])}{' and others' if bad[4:] else ''} is wrong")
  return arrays


def _read_index(file: epath.Path) -> dict[str, Any]:
  try:
    content = json.loads(file.read_text())
    body, found = content["body"], content["digest"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise Damaged(f"{file} cannot be read: {_first_line(error)}") from error
  if digest(body) != found:
    raise Damaged(f"{file} is damaged: its contents do not have the digest that it names")
  return body


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
