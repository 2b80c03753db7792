"""A stream whose rows hold several documents."""

from typing import Any

import numpy as np
from absl import logging

from vljax.data import packing, shuffle
from vljax.data.batching import Row
from vljax.data.interleave import Interleave
from vljax.data.loader import ATTEMPTS, Stream
from vljax.data.transforms import Pipeline


class Packed:
  """Rows of several documents of a stream, each a pure function of (seed, i), for a Loader.

  With a number of `documents`, row i packs the stream's rows i * documents ... (i + 1) * documents - 1: what these are
  does not depend on their neighbors, and one for which no room is left is left out. With 0, a plan puts as many
  documents together as fit, by their greatest lengths, which the texts are measured for once; a broken document is
  left out of its row.

  Raises:
    ValueError: the transforms do not end with `pack`, or, for a plan, hold no `interleave`; or `documents` is negative
      or more than there are.
  """

  def __init__(self, stream: Stream, documents: int):
    steps = stream.transform.steps if isinstance(stream.transform, Pipeline) else ()
    if not steps or not isinstance(steps[-1][1], packing.Pack):
      raise ValueError(f'documents = {documents} needs transforms that end with ("pack", length, media)')
    if not 0 <= documents <= len(stream):
      raise ValueError(f"documents = {documents}; legal: 1 to {len(stream)} in a row, or 0 for as many as fit")
    self.pack, self.documents, self.source, self.cache = steps[-1][1], documents, stream.source, stream.cache
    alone = Pipeline(steps[:-1])
    self.stream = Stream(stream.source, alone, stream.seed, stream.shuffle, stream.cache is not None)
    self.plan = [] if documents else self._plan(alone)

  def __len__(self) -> int:
    """The number of rows of an epoch."""
    return len(self.plan) or len(self.stream) // self.documents

  def __getitem__(self, i: int) -> Row:
    """Row i, with the broken examples that were passed over."""
    if self.plan:
      return self._planned(i)
    rows = [self.stream[i * self.documents + j] for j in range(self.documents)]
    failures = tuple(failure for row in rows for failure in row.failures)
    examples = [row.example for row in rows if row.example is not None]
    return Row(self.pack.join(examples) if len(examples) == len(rows) else None, failures)

  def _planned(self, i: int) -> Row:
    failures = []
    epoch, place = divmod(i, len(self.plan))
    group = shuffle.permute(place, len(self.plan), self.stream.seed, epoch) if self.stream.shuffle else place
    for attempt in range(ATTEMPTS):
      if attempt:
        group = shuffle.hashed(self.stream.seed, i, attempt) % len(self.plan)
      examples = []
      for j, number in enumerate(self.plan[group].tolist()):
        rng = np.random.default_rng((self.stream.seed, i, attempt, j))
        example, failure = self.stream.read(number, rng)
        examples += [] if example is None else [example]
        failures += [] if failure is None else [failure]
      if examples:
        return Row(self.pack.join(examples), tuple(failures))
    return Row(None, tuple(failures))

  def _plan(self, alone: Pipeline) -> list[np.ndarray]:
    step = next((step for _, step in alone.steps if isinstance(step, Interleave)), None)
    if step is None:
      raise ValueError('documents = 0 plans by the lengths of texts; the transforms hold no ("interleave", ...)')
    source: Any = self.source
    sizes, numbers = [], []
    for number in range(len(source)):
      try:
        sizes.append(step.measure(source.row(number)))
        numbers.append(number)
      except (ValueError, OSError) as error:
        logging.warning("number %d is in no row: %s", number, error)
    tokens, media = np.array(sizes).reshape(-1, 2).T
    rows = packing.plan(tokens, media, self.pack.length, self.pack.media)
    share = tokens.sum() / (len(rows) * self.pack.length) if rows else 0.0
    logging.info("%d documents in %d rows, at most %.0f %% full", len(numbers), len(rows), 100 * share)
    return [np.array(numbers)[row] for row in rows]


def packed(stream: Stream, documents: int) -> Stream | Packed:
  """The stream itself for one document in a row, else `Packed`."""
  return stream if documents == 1 else Packed(stream, documents)
