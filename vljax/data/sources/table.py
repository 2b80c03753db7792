"""A JSON Lines file by row number, through the offsets of its lines."""

import json
from typing import Any

import numpy as np
from etils import epath

from vljax.data.sources import files

CHUNK = 1 << 24


class Table:
  """Random access to the rows of a .jsonl file; only the offsets of its lines are held in memory."""

  def __init__(self, path: epath.PathLike):
    self.path = str(files.existing(path, "table"))
    self.offsets, self.sizes = lines(epath.Path(self.path))
    if not len(self.offsets):
      raise ValueError(f"table {self.path!r} is empty")
    self._file = files.RandomFile(self.path)

  def __len__(self) -> int:
    return len(self.offsets)

  def __getitem__(self, number: int) -> dict[str, Any]:
    text = self._file.read(int(self.offsets[number]), int(self.sizes[number]))
    try:
      row = json.loads(text)
    except ValueError as error:
      raise ValueError(f"{self.path}: row {number} is not JSON ({error}): {text[:60]!r}") from error
    if not isinstance(row, dict):
      raise ValueError(f"{self.path}: row {number} is {text[:60]!r}; legal: an object with fields")
    return row


def lines(path: epath.Path) -> tuple[np.ndarray, np.ndarray]:
  """Offset and size [n] of every line that is not blank."""
  ends: list[np.ndarray] = []
  position, last = 0, b"\n"
  with path.open("rb") as file:
    while chunk := file.read(CHUNK):
      ends.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + position)
      position += len(chunk)
      last = chunk[-1:]
  if last != b"\n":
    ends.append(np.array([position]))
  stops = np.concatenate(ends) if ends else np.zeros(0, np.int64)
  starts = np.concatenate([[0], stops[:-1] + 1]) if len(stops) else stops
  sizes = stops - starts
  return starts[sizes > 1].astype(np.int64), sizes[sizes > 1].astype(np.int64)
