"""Host features in the order of the data, whatever the batch, the padding or the number of processes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vljax import parallel
from vljax.types import Batch


def collect(predict: Callable[[Batch], Any], batches: Iterable[Batch], keep: Sequence[str] = ()) -> dict[str, Any]:
  """Run `predict` over an evaluation's batches and collect what it returns, real examples only, in order.

  A batch is fetched after the next one was dispatched, so that the device does not wait for the host.

  Args:
    predict: batch -> array or tree of arrays, the examples on the first axis.
    batches: each of one static size; rows where the boolean field `valid` is False are padding and are dropped.
    keep: fields of the batch to collect too, for example ("label",).

  Returns:
    {"output": the tree of host arrays [n ...], field: host array [n ...] for each of `keep`}. Every process gets the
    rows of all processes, process by process within a batch, as the loader deals them.

  Raises:
    ValueError: there was no batch, or one lacks a field of `keep`.
  """
  parts: list[dict[str, Any]] = []
  waiting = None
  for batch in batches:
    missing = [field for field in keep if field not in batch]
    if missing:
      raise ValueError(f"the evaluation's batch has no field {missing[0]!r}; it has {sorted(batch)}")
    following = ({"output": predict(batch), **{field: batch[field] for field in keep}}, batch.get("valid"))
    if waiting is not None:
      parts.append(_real(*waiting))
    waiting = following
  if waiting is None:
    raise ValueError("the evaluation's data gave no batch")
  parts.append(_real(*waiting))
  return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def encode(function: Callable[[Any], Any], items: Sequence[Any], batch: int = 256) -> np.ndarray:
  """The rows of `function(items)`, in calls of exactly `batch` items so that one program serves them all.

  Under `parallel.use` a call takes a few items more, so that every device gets as many.

  Args:
    function: a list of `batch` items -> array [batch ...].
    items: texts or pictures; the last call is filled up with its last item.

  Raises:
    ValueError: there are no items.
  """
  if not len(items):
    raise ValueError("there is nothing to encode")
  batch += -batch % parallel.ways()
  rows = []
  for first in range(0, len(items), batch):
    part = list(items[first : first + batch])
    rows.append(parallel.to_host(function(part + part[-1:] * (batch - len(part))))[: len(part)])
  return np.concatenate(rows)


def _real(tree: dict[str, Any], valid: Any) -> dict[str, Any]:
  tree = jax.tree.map(_on_host, tree)
  if valid is None:
    return tree
  rows = _on_host(valid).astype(bool)
  return jax.tree.map(lambda x: x[rows], tree)


def _on_host(x: Any) -> np.ndarray:
  whole = jax.process_count() == 1 or (isinstance(x, jax.Array) and x.is_fully_replicated)
  return np.asarray(x if whole else multihost_utils.process_allgather(x, tiled=True))
