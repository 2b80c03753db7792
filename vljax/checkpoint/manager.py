"""The checkpoints of a run: asynchronous, atomic, checked, and resumable on any mesh and number of processes.

WORKDIR/metadata.json           config, meaning, version and layout (checkpoint.metadata)
WORKDIR/checkpoints/<step>/     state and index (checkpoint.storage)
WORKDIR/checkpoints/frozen/     leaves that never change, written once
"""

from collections.abc import Mapping
from typing import Any

import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from vljax import config as config_lib
from vljax import tree as tree_lib
from vljax.checkpoint import files, packing, storage
from vljax.checkpoint import frozen as frozen_lib
from vljax.checkpoint import metadata as metadata_lib
from vljax.checkpoint.steps import newest, steps
from vljax.parallel import processes

FOLDER = "checkpoints"


class Manager:
  """Saves and restores the states of a run in `directory`, its workdir. All processes make the same calls.

  Leaf names are slash-separated paths of the state (`params/image/cls`). A state may hold arrays, typed random keys,
  Python scalars and None; dataclasses and tuples are seen by their paths only.

  Args:
    directory: the workdir.
    keep: how many of the newest steps stay.
    every: `save` without force writes at steps that this divides.
    metadata: what the run means, the same as what the workdir already holds; None takes what it holds.

  Raises:
    ValueError: `keep` or `every` is not positive, or the workdir's metadata mean something else.
  """

  def __init__(
    self,
    directory: epath.PathLike,
    *,
    keep: int = 3,
    every: int = 1,
    metadata: metadata_lib.Metadata | None = None,
  ):
    for name, value in (("keep", keep), ("every", every)):
      if value < 1:
        raise ValueError(f"config.checkpoint.{name} = {value}; legal: a positive number")
    self.workdir = epath.Path(directory).resolve()
    self.folder = self.workdir / FOLDER
    self.every = every
    self._metadata = self._agree_on(metadata)
    self._frozen: frozen_lib.Frozen | None = None
    self._started: int | None = None
    options = ocp.CheckpointManagerOptions(
      preservation_policy=ocp.checkpoint_managers.LatestN(keep),
      cleanup_tmp_directories=True,
      async_options=ocp.AsyncOptions(post_finalization_callback=self._record_files),
    )
    self._orbax = ocp.CheckpointManager(self.folder, options=options)

  def save(self, step: int, state: Any, data: Mapping[str, int] | None = None, *, force: bool = False) -> bool:
    """Start to save; True if it did. Returns when the state may be overwritten, before it is written.

    Args:
      state: any tree of arrays; leaves given to `save_frozen` are left out.
      data: stream name to examples consumed.
      force: save although `every` does not divide the step. A step that is already there is left as it is.

    Raises:
      RuntimeError: the save before this one failed; names its step and the reason.
    """
    if not (force or step % self.every == 0) or step in self._orbax.all_steps():
      return False
    self.wait()
    if self._started is None:
      self._write_metadata()
    held = self._frozen.leaves if self._frozen else {}
    arrays, index = packing.pack(state)
    arrays = {name: x for name, x in arrays.items() if name not in held}
    index = {name: entry for name, entry in index.items() if name not in held}
    args = storage.args(
      arrays,
      storage.with_sums(arrays, index),
      step=step,
      examples=dict(data or {}),
      frozen=self._frozen.hash if self._frozen else None,
      metadata=self._metadata.to_json(),
    )
    self._started = step
    self._orbax.save(step, args=args, force=True)
    return True

  def save_frozen(self, tree: Any) -> str:
    """Write leaves that never change, once per run; later saves leave out leaves of these names. Returns their hash.

    Args:
      tree: the whole leaves, under the names that they have in the state, e.g. {"params": split.held(params)}.

    Raises:
      ValueError: the run has written other ones before, and steps that refer to them.
    """
    self.wait()
    self._frozen = frozen_lib.write(self.folder, tree)
    return self._frozen.hash

  def restore(self, state: Any, step: int | None = None) -> tuple[Any, dict[str, int], int] | None:
    """(state, data position, step) of the newest good step, or of `step`; None if there is none.

    Damaged steps are named in a warning and set aside as `<step>.damaged`; so are later steps than one asked for,
    since the run goes on from there, as `<step>.superseded`.

    Args:
      state: the tree to restore, its leaves real arrays or `jax.ShapeDtypeStruct`s, laid out by their shardings;
        frozen ones come in the dtype that they are stored in.

    Raises:
      ValueError: the newest good step holds another tree (names the leaves) or means something else, or all steps are
        damaged (names each).
      FileNotFoundError: `step` does not exist.
    """
    self.wait()
    found = newest(self.folder, lambda folder: self._read(folder, state), step)
    if found is None:
      return None
    (restored, data), step, damaged = found
    self._set_aside(damaged, "damaged")
    self._set_aside([later for later in steps(self.folder) if later > step], "superseded")
    return restored, data, step

  def latest_step(self) -> int | None:
    """The newest step, saved or being saved; it may turn out damaged."""
    return self._orbax.latest_step()

  def wait(self) -> None:
    """Wait until the last save is on disk.

    Raises:
      RuntimeError: it failed.
    """
    try:
      self._orbax.wait_until_finished()
    except Exception as error:
      raise RuntimeError(f"saving step {self._started} to {self.folder} failed: {error}") from error

  def close(self) -> None:
    """Wait for the last save and let go of the threads."""
    try:
      self.wait()
    finally:
      self._orbax.close()

  def __enter__(self) -> "Manager":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def _read(self, folder: epath.Path, state: Any) -> tuple[Any, dict[str, int]]:
    body = storage.read_index(folder)
    self._check_meaning(body.get("metadata", {}), folder)
    held = frozen_lib.read(self.folder, body["frozen"]) if body["frozen"] else None
    parts = [(folder, body["leaves"]), *([(held.folder, held.leaves)] if held else [])]
    found = {name: entry for _, leaves in parts for name, entry in leaves.items()}
    state = frozen_lib.as_stored(state, held.leaves) if held else state
    expected = {name: packing.describe(name, leaf) for name, leaf in tree_lib.flatten(state).items()}
    packing.compare(found, expected, str(folder))
    arrays: dict[str, Any] = {}
    for where, leaves in parts:
      arrays |= storage.read_arrays(where, packing.targets(state, _arrays(leaves)), leaves)
    self._frozen = held
    return packing.unpack(state, arrays, found), _examples(body)

  def _check_meaning(self, found: Mapping[str, Any], folder: epath.Path) -> None:
    """A step copied without its run, or whose run lost its metadata, is known by its own; old ones may have none."""
    if found.get("meaning") and self._metadata.meaning:
      stored = config_lib.parse(found, metadata_lib.Metadata, f"{folder}: metadata")
      metadata_lib.check(stored, self._metadata, str(folder))

  def _record_files(self) -> None:
    """List the files of the step being saved, in its temporary folder before that gets its name."""
    unfinished = list(self.folder.glob(f"{self._started}.orbax-checkpoint-tmp*"))
    files.record(unfinished[0] if unfinished else self.folder / str(self._started), storage.ITEMS)

  def _set_aside(self, which: list[int], why: str) -> None:
    for step in which:
      target = self.folder / f"{step}.{why}"
      processes.first(lambda: _move(self.folder / str(step), target))  # noqa: B023
    if which:
      logging.warning("%s: set step %s aside as .%s", self.folder, ", ".join(map(str, which)), why)
      self._orbax.reload()

  def _agree_on(self, metadata: metadata_lib.Metadata | None) -> metadata_lib.Metadata:
    """The run's metadata, checked against the workdir's.

    What a begun run holds is replaced with the first save only: a config that does not fit it leaves it as it was.
    Without a finished step there is nothing to fit.
    """
    begun = processes.agree(bool(steps(self.folder)))
    if not processes.agree(begun and (self.workdir / metadata_lib.FILE).exists()):
      self._metadata = metadata or metadata_lib.Metadata()
      if not begun:
        self._write_metadata()
      return self._metadata
    found = metadata_lib.read(self.workdir)
    metadata_lib.check(found, metadata or found, str(self.workdir))
    return metadata or found

  def _write_metadata(self) -> None:
    processes.first(lambda: metadata_lib.write(self.workdir, self._metadata))


def _move(source: epath.Path, target: epath.Path) -> None:
  if target.exists():
    target.rmtree()
  source.rename(target)


def _arrays(leaves: packing.Index) -> list[str]:
  return [name for name, entry in leaves.items() if "value" not in entry]


def _examples(body: Mapping[str, Any]) -> dict[str, int]:
  """Stream name to examples consumed; steps of vljax 0.1 count batches of the size that their config says."""
  if "examples" in body:
    return body["examples"]
  return {name: n * body["metadata"]["config"]["streams"][name]["batch"] for name, n in body["data"].items()}
