"""The keys that every config has, whatever its recipe."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vljax import config
from vljax.data.vocabulary import Vocabulary
from vljax.parallel.mesh import Mesh
from vljax.train.ema import Ema
from vljax.train.optim import Group
from vljax.train.schedules import Schedule
from vljax.train.step import Combine, Share


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
  """A stream of training examples.

  Attributes:
    source: where the examples come from, `kind:path?option=value` (vljax.data.sources).
    transforms: what is done to each on the host, a list of tuples (vljax.data.transforms).
    batch: examples per step, over all hosts.
    micro: micro-batches per step.
    weight: of this stream's gradient.
    shuffle: a new order in each epoch, or the order of the source.
    cache: keep decoded examples in memory; for small sets.
    max_broken: the share of broken examples that stops the run.
    documents: examples that are packed into one row (vljax.data.packed); 0: as many as fit, by a plan.
    every: steps from one of this stream's batches to the next, where the streams accumulate.
  """

  source: str
  batch: int
  transforms: tuple[Any, ...] = ()
  micro: int = 1
  weight: float = 1.0
  shuffle: bool = True
  cache: bool = False
  max_broken: float = 0.01
  documents: int = 1
  every: int = 1

  @property
  def share(self) -> Share:
    return Share(self.weight, self.micro, self.every)

  def check(self, where: str) -> None:
    """Raise unless the numbers of the stream at the key `where` are legal."""
    counts = dict.fromkeys(("batch", "micro"), "1 or more")
    config.check_ranges(where, self, **counts, weight="finite, 0 or more", max_broken="0 to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoints:
  """How often to save, and how many to keep; the last step is always saved."""

  every: int = 1000
  keep: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What the loop reads of a config.

  Attributes:
    recipe: a module of vljax.recipes.
    steps: of the whole run.
    streams: name to stream; phases ask for them by name.
    optim: (regex, group) pairs, the first match of a parameter's unstacked name wins.
    clip: the greatest global norm of a phase's gradient.
    combine: how the streams of one phase make up a step.
    rules: logical axis to mesh axes, over the defaults.
    workers: processes that load data; 0 loads in threads of this one.
    max_bad_steps: so many steps in a row that are not finite stop the run.
    log_every: steps between rows of metrics.
    writers: where metrics go, of vljax.train.writers.
    init: (workdir or published file, regex over its names, prefix that the taken names get) per run to start from;
      see interop.weights.
    tokenizer: of the streams' texts; None if there are none.
  """

  recipe: str
  steps: int
  streams: Mapping[str, Stream]
  seed: int = 0
  optim: tuple[tuple[str, Group], ...] = ((".*", Group()),)
  schedule: Schedule = Schedule()
  clip: float | None = None
  ema: Ema | None = None
  combine: Combine = "accumulate"
  mesh: Mesh = Mesh()
  rules: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  workers: int = 0
  max_bad_steps: int = 10
  log_every: int = 10
  checkpoint: Checkpoints = Checkpoints()
  writers: tuple[str, ...] = ("jsonl", "png")
  init: tuple[tuple[str, str, str], ...] = ()
  tokenizer: Vocabulary | None = None

  def __post_init__(self):
    least = dict.fromkeys(("steps", "log_every", "max_bad_steps"), "1 or more")
    config.check_ranges("config", self, **least, workers="0 or more", clip="above 0, or None")
    for i, (_, group) in enumerate(self.optim):
      group.check(f"config.optim[{i}][1]")
    if not self.streams:
      raise ValueError("config.streams names no stream")
    for name, stream in self.streams.items():
      stream.check(f"config.streams.{name}")
    self._check_every()

  @property
  def shares(self) -> dict[str, Share]:
    return {name: stream.share for name, stream in self.streams.items()}

  def _check_every(self) -> None:
    found = {name: stream.every for name, stream in self.streams.items()}
    for name, every in found.items():
      if every < 1 or (every > 1 and self.combine != "accumulate"):
        legal = "1 or more" if self.combine == "accumulate" else f"1, since combine = {self.combine!r}"
        raise ValueError(f"config.streams.{name}.every = {every}; legal: {legal}")
    if 1 not in found.values():
      raise ValueError(f"config.streams: no stream is in each step; every = {found}; legal: 1 for one of them")
