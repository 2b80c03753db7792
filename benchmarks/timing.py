"""Fair times on a machine that is never quite idle, and what a benchmark hands back."""

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Result:
  """One benchmark.

  Attributes:
    title: what was timed, with sizes.
    rows: a table: each row maps column to value; all rows have the same columns.
    goal: what the numbers should reach, in words.
    notes: what a reader must know, such as a rival that is not installed.
  """

  title: str
  rows: list[dict[str, Any]]
  goal: str = ""
  notes: list[str] = dataclasses.field(default_factory=list)


def interleaved(
  functions: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 2, number: int = 1
) -> dict[str, float]:
  """Median seconds of one call of each function; calls take turns, so that a slow minute slows all alike.

  Each function returns when its work is done. The first `warmup` rounds (compilation, allocation) do not count.

  Args:
    repeats: rounds that count.
    number: calls in a row that make one time.
  """
  seconds: dict[str, list[float]] = {name: [] for name in functions}
  for i in range(warmup + repeats):
    for name, function in functions.items():
      gc.collect()
      start = time.perf_counter()
      for _ in range(number):
        function()
      if i >= warmup:
        seconds[name].append((time.perf_counter() - start) / number)
  return {name: statistics.median(values) for name, values in seconds.items()}


def ratio(seconds: Mapping[str, float], rival: str, ours: str = "vljax") -> float | str:
  """How many times faster we are than the rival; a word when it was not timed."""
  return round(seconds[rival] / seconds[ours], 3) if rival in seconds else "not installed"


def milliseconds(seconds: Mapping[str, float], name: str) -> float | str:
  """Milliseconds, or a word when it was not timed."""
  return round(1e3 * seconds[name], 2) if name in seconds else "not installed"
