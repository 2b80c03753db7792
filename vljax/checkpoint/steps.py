"""The steps of a folder of checkpoints, and the way back over damaged ones."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from absl import logging
from etils import epath

from vljax.checkpoint.files import Damaged

T = TypeVar("T")


def steps(folder: epath.Path) -> list[int]:
  """The finished steps, oldest first."""
  if not folder.exists():
    return []
  return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def newest(
  folder: epath.Path, read: Callable[[epath.Path], T], step: int | None = None
) -> tuple[T, int, list[int]] | None:
  """(what `read` makes of the newest undamaged step, that step, the damaged ones after it); None if there is no step.

  With `step` only that one is read.

  Raises:
    ValueError: all are damaged; names each with its reason.
    FileNotFoundError: there is no such step.
  """
  candidates = steps(folder)
  if step is not None:
    if step not in candidates:
      raise FileNotFoundError(f"{folder} holds no step {step}; found {', '.join(map(str, candidates)) or 'none'}")
    candidates = [step]
  bad: dict[int, str] = {}
  for candidate in reversed(candidates):
    try:
      value = read(folder / str(candidate))
    except Damaged as error:
      bad[candidate] = str(error)
      continue
    if bad:
      logging.warning("using step %d, since later checkpoints are damaged: %s", candidate, _listed(bad))
    return value, candidate, list(bad)
  if bad:
    raise ValueError(f"no checkpoint in {folder} can be used: {_listed(bad)}")
  return None


def _listed(bad: Mapping[int, str]) -> str:
  return "; ".join(f"step {step}: {reason}" for step, reason in bad.items())
