"""The parameters of a run without its model: for the hub, and for runs that start from others."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from etils import epath

from vljax import config as config_lib
from vljax import tree as tree_lib
from vljax.checkpoint import frozen, packing, storage
from vljax.checkpoint import metadata as metadata_lib
from vljax.checkpoint.manager import FOLDER
from vljax.checkpoint.steps import newest, steps

Which = Literal["auto", "ema", "params"]


def load_params(
  directory: epath.PathLike,
  step: int | None = None,
  which: Which = "auto",
  place: Callable[[str, jax.ShapeDtypeStruct], jax.sharding.Sharding] | None = None,
) -> tuple[dict[str, Any], metadata_lib.Metadata]:
  """(weights as nested dicts, metadata) of a workdir: of its newest good step, or of `step`.

  Weights are the parameters and, under their own names, the extras (batch statistics): what `predict` functions read.
  Nothing in the workdir is changed. Several processes call this together.

  Args:
    which: `params` are the trained ones, `ema` their moving average (leaves that have none, being frozen, come from
      the trained ones), `auto` the average if the run keeps one.
    place: (parameter name, abstract array) -> sharding, to load onto a mesh; None loads numpy arrays.

  Raises:
    FileNotFoundError: `directory` is no workdir with a checkpoint (says what was found instead), or has no such step.
    ValueError: all steps are damaged; another layout; an unknown `which`; `ema` of a run without one.
  """
  config_lib.choose("value which =", which, dict.fromkeys(("auto", "ema", "params")))
  metadata = load_metadata(directory)
  found = newest(find(directory) / FOLDER, lambda folder: _read(folder, which, place), step)
  return tree_lib.unflatten(found[0]), metadata  # type: ignore[index]


def load_metadata(directory: epath.PathLike) -> metadata_lib.Metadata:
  """What a workdir says of its run, for those who must know before they load.

  Raises:
    FileNotFoundError, ValueError: as `load_params`.
  """
  workdir = find(directory)
  metadata = metadata_lib.read(workdir)
  metadata_lib.check_layout(metadata, str(workdir))
  return metadata


def find(directory: epath.PathLike) -> epath.Path:
  """The workdir at a path, checked to hold metadata and a step.

  Raises:
    FileNotFoundError: it does not; names what is there.
  """
  workdir = epath.Path(directory)
  if not workdir.exists():
    raise FileNotFoundError(f"{workdir} does not exist; a vljax workdir is expected")
  if not workdir.is_dir():
    raise FileNotFoundError(f"{workdir} is a file; a vljax workdir (a folder with {metadata_lib.FILE}) is expected")
  if not (workdir / metadata_lib.FILE).exists():
    raise FileNotFoundError(
      f"{workdir} holds no {metadata_lib.FILE}, so it is no vljax workdir; found {_names(workdir)}"
    )
  if not steps(workdir / FOLDER):
    raise FileNotFoundError(f"{workdir / FOLDER} holds no finished checkpoint; found {_names(workdir / FOLDER)}")
  return workdir.resolve()


def _read(folder: epath.Path, which: Which, place: Callable | None) -> dict[str, Any]:
  body = storage.read_index(folder)
  parts = [(folder, body["leaves"])]
  if body["frozen"]:
    held = frozen.read(folder.parent, body["frozen"])
    parts.append((held.folder, held.leaves))
  index = {name: entry for _, leaves in parts for name, entry in leaves.items()}
  chosen = _choose(index, which, folder)
  flat: dict[str, Any] = {}
  for where, leaves in parts:
    targets = {name: _target(chosen[name], leaves[name], place) for name in chosen if name in leaves}
    flat |= storage.read_arrays(where, targets, leaves)
  return {target: flat[name] for name, target in chosen.items()}


def _choose(index: packing.Index, which: Which, folder: epath.Path) -> dict[str, str]:
  """Stored name to name without `params/`, `ema/` or `extras/`."""
  of = lambda prefix: {name.removeprefix(prefix): name for name in index if name.startswith(prefix)}
  params, ema = of("params/"), of("ema/")
  if which == "ema" and not ema:
    raise ValueError(f"{folder} keeps no ema of its parameters; legal: which='params' or 'auto'")
  if not params:
    raise ValueError(f"{folder} holds no leaf params/...; found {', '.join(list(index)[:5]) or 'none'}")
  chosen = params if which == "params" else {**params, **ema}
  for name, stored in chosen.items():
    if name not in params or index[stored]["shape"] != index[params[name]]["shape"]:
      expected = index[params[name]]["shape"] if name in params else "no such leaf"
      raise ValueError(f"{folder}: {stored} has the shape {index[stored]['shape']}, params/{name} has {expected}")
  return {stored: name for name, stored in {**chosen, **of("extras/")}.items()}


def _target(name: str, entry: dict[str, Any], place: Callable | None) -> Any:
  shape, dtype = tuple(entry["shape"]), jax.numpy.dtype(entry["dtype"])
  if place is None:
    return np.empty(shape, dtype)
  return packing.placed(name, entry, place(name, jax.ShapeDtypeStruct(shape, dtype)))


def _names(folder: epath.Path) -> str:
  names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
  return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if names[8:] else "") if names else "nothing"
