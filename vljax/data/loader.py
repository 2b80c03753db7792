"""Batches of a source, in an order that is a pure function of (seed, row): any run can go on where another stopped.

Row i of a stream shows the example at place i mod n of the permutation of epoch i div n, transformed with a generator
made from (seed, i). Batch b of a run on P processes is rows b * B to (b + 1) * B, process p taking the p-th part. So
the position of a run is one number, the batches consumed, and processes, threads and workers may change at will.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from vljax.data import batching, shuffle
from vljax.data.batching import Broken, Failure, Row
from vljax.data.transforms import Pipeline

ATTEMPTS = 32
"""Broken examples in a row before a row is given up; only a source that is broken throughout reaches it."""

CHUNK = 32
"""The most rows that a thread reads at a time."""

ENDLESS = 2**48
"""More rows than any run reads."""

Transform = Callable[[dict[str, Any], np.random.Generator], dict[str, Any]]


class Stream:
  """Endless rows of a source, each a pure function of (seed, i).

  With `cache` the result of the transforms before the first random one is kept in memory for every example: for sets
  whose decoded images fit there.

  Raises:
    ValueError: the source is empty, or the seed negative.
  """

  def __init__(
    self, source: Sequence[dict], transform: Transform, seed: int = 0, shuffle: bool = True, cache: bool = False
  ):
    if not len(source):
      raise ValueError(f"{_name(source)} has no examples: this host has nothing to read")
    if seed < 0:
      raise ValueError(f"seed = {seed}; legal: 0 or more")
    self.source, self.transform, self.seed, self.shuffle = source, transform, seed, shuffle
    self.cache: dict[int, dict] | None = {} if cache else None
    fixed = cache and isinstance(transform, Pipeline)
    self._fixed, self._rest = transform.split() if fixed else (_copy, transform)

  def __len__(self) -> int:
    """The number of examples, which is the number of rows of an epoch."""
    return len(self.source)

  def index(self, i: int, attempt: int = 0) -> int:
    """Which example row i shows; from the first attempt on, which one replaces the broken ones before it."""
    if attempt:
      return shuffle.hashed(self.seed, i, attempt) % len(self)
    epoch, place = divmod(i, len(self))
    return shuffle.permute(place, len(self), self.seed, epoch) if self.shuffle else place

  def __getitem__(self, i: int) -> Row:
    """Row i, with the broken examples that were passed over."""
    failures = []
    for attempt in range(ATTEMPTS):
      example, failure = self.read(self.index(i, attempt), np.random.default_rng((self.seed, i, attempt)))
      if failure is None:
        return Row(example, tuple(failures))
      failures.append(failure)
    return Row(None, tuple(failures))

  def read(self, index: int, rng: np.random.Generator) -> tuple[dict | None, Failure | None]:
    """Example `index`, transformed, or what went wrong with it."""
    key = f"number {index} of {_name(self.source)}"
    try:
      if self.cache is None or index not in self.cache:
        raw = self.source[index]
        key = str(raw.get("key", key))
        fixed = self._fixed(raw)
        if self.cache is None:
          return self._rest(fixed, rng), None
        self.cache[index] = fixed
      return self._rest(self.cache[index], rng), None
    except (ValueError, OSError, KeyError) as error:
      return None, Failure(key, f"{type(error).__name__}: {error}")

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {"cache": None if self.cache is None else {}}


class Loader:
  """Endless batches of this process, as dicts of arrays; an iterator.

  Threads of this process read rows (decoding releases the interpreter lock), `workers` processes read whole batches
  where Python itself is the limit. `prefetch` batches are made ahead; `start` rows were consumed before, in batches of
  any size, and `consumed` goes on from there. Broken examples are replaced, counted in
  `broken`, logged once each, and stop the run when more than the share `max_broken` of those seen.

  Raises:
    ValueError: fewer examples than one batch, a batch that does not divide among the processes, fields that are no
      arrays, or too many broken examples.
  """

  def __init__(
    self,
    stream: Stream,
    batch: int,
    *,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int | None = None,
    workers: int = 0,
    prefetch: int = 2,
    max_broken: float = 0.05,
  ):
    self.local = batching.shard(batch, process_index, process_count)
    if len(stream) < batch:
      raise ValueError(f"{_name(stream.source)} has {len(stream)} examples, fewer than one batch of {batch}")
    for name, value, least in (("start", start, 0), ("workers", workers, 0), ("prefetch", prefetch, 1)):
      if value < least:
        raise ValueError(f"{name} = {value}; legal: {least} or more")
    if workers and stream.cache is not None:
      raise ValueError(
        f"cache=True would keep every example in each of workers = {workers} processes; legal: workers = 0"
      )
    self.stream, self.batch, self.consumed = stream, batch, start
    self.broken = Broken(max_broken)
    rows = _Chunks(stream.__getitem__, batch, process_index * self.local, self.local, start, ENDLESS // batch)
    self._batches = iter(_dataset(rows, _training_batch, threads, workers, prefetch))

  def __iter__(self) -> Self:
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    batch, failures = next(self._batches)
    self.broken.add(self.local, failures)
    self.consumed += self.batch
    return batch

  def close(self) -> None:
    """Ends threads and workers."""
    self._batches.close()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()


class _Chunks:
  """This process's rows of all batches, a few at a time, as a source for grain: its cost is per element."""

  def __init__(self, row: Callable[[int], Row], batch: int, offset: int, local: int, start: int, batches: int):
    self.row, self.batch, self.offset, self.local, self.start, self.batches = row, batch, offset, local, start, batches
    self.size = local

  @property
  def per_batch(self) -> int:
    return -(-self.local // self.size)

  def __len__(self) -> int:
    return self.batches * self.per_batch

  def __getitem__(self, i: int) -> list[Row]:
    number, place = divmod(i, self.per_batch)
    first = self.start + number * self.batch + self.offset
    return [self.row(first + j) for j in range(place * self.size, min((place + 1) * self.size, self.local))]


def _dataset(chunks: _Chunks, batch_fn: Callable, threads: int | None, workers: int, prefetch: int) -> Any:
  """The grain pipeline; parts of a batch are spread over threads, whole batches over worker processes."""
  import grain  # 1.3 s: paid by those who read data

  if workers:
    _parse_flags()
    read = grain.ReadOptions(threads or 0, threads or 0)
    dataset = grain.MapDataset.source(chunks).map(lambda rows: batch_fn([rows])).to_iter_dataset(read)
    options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=prefetch)
    return dataset.mp_prefetch(options, worker_init_fn=_outlive_interrupt)
  threads = min(32, os.cpu_count() or 1) if threads is None else threads
  chunks.size = min(CHUNK, -(-chunks.local // max(1, 4 * threads)))
  ahead = threads + chunks.per_batch if threads else 0
  dataset = grain.MapDataset.source(chunks).to_iter_dataset(grain.ReadOptions(threads, ahead))
  dataset = dataset.batch(chunks.per_batch, batch_fn=batch_fn)
  return grain.experimental.ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=prefetch)


def _outlive_interrupt(worker: int, workers: int) -> None:
  """A terminal sends Ctrl-C to the workers as well, but the run still needs batches until it has saved."""
  del worker, workers
  signal.signal(signal.SIGINT, signal.SIG_IGN)


def _parse_flags() -> None:
  """Worker processes read absl's flags, which only programs started by `app.run` have parsed."""
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS(sys.argv[:1])


def _training_batch(chunks: Sequence[list[Row]]) -> tuple[dict[str, np.ndarray], list[Failure]]:
  rows = [row for chunk in chunks for row in chunk]
  failures = [failure for row in rows for failure in row.failures]
  examples = [row.example for row in rows if row.example is not None]
  if len(examples) < len(rows):
    raise ValueError(
      f"{ATTEMPTS} examples in a row are broken; the last one is {failures[-1].key}: {failures[-1].cause}"
    )
  return batching.numeric(batching.stack(examples)), failures


def _copy(example: dict) -> dict:
  return dict(example)


def _name(source: Any) -> str:
  return f"source {source.name!r}" if getattr(source, "name", None) else f"a {type(source).__name__}"
