"""Rows to batches: arrays stacked, every row named by what went wrong with it."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging


@dataclasses.dataclass(frozen=True)
class Failure:
  """An example that could not be read or transformed."""

  key: str
  cause: str


@dataclasses.dataclass(frozen=True)
class Row:
  """One row of a batch: its example, None if there is none, and the broken examples met on the way to it."""

  example: dict[str, Any] | None
  failures: tuple[Failure, ...] = ()


@dataclasses.dataclass
class Broken:
  """The count of broken examples; stops a run that has too many.

  Fewer than `minimum` examples seen count as `minimum`, so that one bad picture at the start stops nothing.
  """

  limit: float = 0.05
  minimum: int = 100
  seen: int = 0
  count: int = 0
  last: Failure | None = None
  keys: set[str] = dataclasses.field(default_factory=set)

  def add(self, rows: int, failures: Iterable[Failure]) -> None:
    """Counts rows and the failures among them; each broken key is logged once.

    Raises:
      ValueError: more than the share `limit` of the examples seen are broken.
    """
    failures = list(failures)
    self.seen += rows + len(failures)
    self.count += len(failures)
    for failure in failures:
      self.last = failure
      if failure.key not in self.keys:
        self.keys.add(failure.key)
        logging.warning("broken example %s: %s", failure.key, failure.cause)
    if self.count > self.limit * max(self.seen, self.minimum):
      raise ValueError(
        f"{self.count} of {self.seen} examples are broken ({len(self.keys)} different ones), more than the share "
        f"max_broken = {self.limit}; the last one is {self.last.key}: {self.last.cause}"
      )


def stack(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """One dict of arrays [b ...] from examples of equal fields and shapes; what is no array or number becomes a list.

  Raises:
    ValueError: fields or shapes differ between examples.
  """
  first = examples[0]
  for example in examples:
    if example.keys() != first.keys():
      missing = sorted(first.keys() ^ example.keys())
      raise ValueError(f"the examples of a batch have not the same fields: {missing} are in some and not in others")
  return {name: _column(name, [example[name] for example in examples]) for name in first}


def numeric(batch: dict[str, Any]) -> dict[str, np.ndarray]:
  """The batch, if all of its fields can go to a device.

  Raises:
    ValueError: a field holds strings or other objects.
  """
  for name, column in batch.items():
    if isinstance(column, list):
      kind = type(column[0]).__name__
      fields = ", ".join(repr(k) for k, v in batch.items() if not isinstance(v, list))
      raise ValueError(
        f'field {name!r} is a {kind}, which no device can hold; end the transforms with ("keep", {fields})'
      )
  return batch


def array(value: Any) -> np.ndarray:
  """A field as an array; Python's own numbers have the 32 bits that devices compute with.

  Raises:
    OverflowError: an integer that 32 bits do not hold.
  """
  kind = {int: np.int32, float: np.float32}.get(type(value))
  return np.asarray(value, kind)


def _column(name: str, values: list[Any]) -> np.ndarray | list[Any]:
  if not isinstance(values[0], np.ndarray | np.generic | bool | int | float):
    return values
  arrays = [array(value) for value in values]
  shapes = {a.shape: None for a in arrays}
  if len(shapes) > 1:
    some = ", ".join(str(list(shape)) for shape in list(shapes)[:3])
    raise ValueError(f"field {name!r} has different shapes in one batch: {some}; crop, resize or pad it to one shape")
  return np.stack(arrays)


def shard(batch: int, process_index: int, process_count: int) -> int:
  """The number of rows of each process.

  Raises:
    ValueError: the batch does not divide, or there is no such process.
  """
  if batch < 1 or process_count < 1 or batch % process_count:
    raise ValueError(f"batch = {batch} does not divide among {process_count} processes; legal: a positive multiple")
  if not 0 <= process_index < process_count:
    raise ValueError(f"process_index = {process_index}; legal: 0 to {process_count - 1}")
  return batch // process_count
