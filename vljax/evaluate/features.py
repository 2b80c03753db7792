"""Host features in the order of the data, whatever the batch, the padding or the number of processes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vljax import parallel


def encode(function: Callable[[Any], Any], items: Sequence[Any], batch: int = 256) -> np.ndarray:
  """The rows of `function(items)`, in calls of exactly `batch` items so that one program serves them all.

  Under `parallel.use` a call takes a few items more, so that every device gets as many. A call's rows are fetched
  after the next call was dispatched, so that the device does not wait while pictures are decoded.

  Args:
    function: a list of `batch` items -> array [batch ...].
    items: texts or pictures; the last call is filled up with its last item.

  Raises:
    ValueError: there are no items, or the batch is below 1.
  """
  if not len(items):
    raise ValueError("there is nothing to encode")
  check_batch(batch)
  batch += -batch % parallel.ways()
  rows, waiting = [], None
  for first in range(0, len(items), batch):
    part = list(items[first : first + batch])
    following = function(part + part[-1:] * (batch - len(part)))
    if waiting is not None:
      rows.append(parallel.to_host(waiting))
    waiting = following
  rows.append(parallel.to_host(waiting))
  return np.concatenate(rows)[: len(items)]


def check_batch(batch: int) -> None:
  """Raises ValueError unless the number of items of a call is positive."""
  if batch < 1:
    raise ValueError(f"batch = {batch}; legal: 1 or more")
