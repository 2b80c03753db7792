"""Recipe and Phase: what is trained, on which streams, by which objective."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from vljax import config
from vljax.types import Batch, Extras, Metrics, Params, Rng

Terms = dict[str, Any]
Due = tuple[tuple[str, str], ...]


def examples(batch: Batch) -> Terms:
  """The usual denominator: one term, `loss`, over the examples of the batch."""
  return {"loss": jax.tree.leaves(batch)[0].shape[0]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
  """A part of one train step: one objective on its streams, training the leaves that `trains` matches.

  The phase minimises, for each stream, sum over terms of coef * sum / weight, streams added with their own weights.
  Because the weights are known before the loss is, the number is the same for any split into micro-batches.

  Attributes:
    name: unique within the recipe; metrics are reported as `name/stream/metric`.
    loss: (params, extras, batch, rng) -> ({term: sum}, metrics, extras); metrics are averaged over micro-batches.
    weights: batch -> {term: denominator}.
    coefs: term to coefficient; absent means 1.
    streams: the streams that feed it, by name.
    trains: a regex over unstacked parameter names.
    every: due at steps that this divides.
    opt: the optimiser slot, shared by phases of equal `trains`; None means its own, under its name.
    rates: unstacked parameter name to a factor of its learning rate; of several phases of a slot the first's counts.
  """

  name: str
  loss: Callable[[Params, Extras, Batch, Rng], tuple[Terms, Metrics, Extras]] | None = None
  weights: Callable[[Batch], Terms] = examples
  coefs: Mapping[str, float] = dataclasses.field(default_factory=dict)
  streams: tuple[str, ...] = ("train",)
  trains: str = ".*"
  every: int = 1
  opt: str | None = None
  rates: Callable[[str], float] | None = None

  def __post_init__(self):
    if self.every < 1:
      raise ValueError(f"phase {self.name!r}: every = {self.every}; legal: 1 or more")
    if not self.streams:
      raise ValueError(f"phase {self.name!r} reads no stream")
    if self.loss is None and not isinstance(self, Paired):
      raise ValueError(f"phase {self.name!r} has no loss")

  @property
  def slot(self) -> str:
    return self.opt or self.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paired(Phase):
  """A phase whose loss couples the examples of a batch: embed each, then join all (contrastive losses).

  With micro-batches the gradient is exact: embeddings are made without a graph, the join is differentiated, and each
  micro-batch is embedded again under its cotangent with the same keys (GradCache, arXiv 2101.06983).

  Attributes:
    embed: (params, extras, batch, rng) -> (z, extras); the leaves of z have the examples first.
    join: (params, z) -> ({term: sum}, metrics).
  """

  embed: Callable[[Params, Extras, Batch, Rng], tuple[Any, Extras]]
  join: Callable[[Params, Any], tuple[Terms, Metrics]]


OWN = ("data", "time", "throughput")
"""What the loop's own metrics begin with."""


def no_preparation(batch: Batch, rng: Rng) -> Batch:
  del rng
  return batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """A model, its objectives and how to use it: all that the loop knows.

  Attributes:
    init: (rng, batch) -> (params, extras); params may carry flax's logical axis boxes. It is called with an example
      of every stream, and raises ValueError where that lacks a field.
    phases: the parts of a step, in order.
    prepare: (batch, rng) -> batch, once per step on the whole batch of each stream that is due, on the device:
      augmentation, masks, negatives. All phases that read the stream see the same draw.
    due: step -> ((phase, stream), ...), pure and equal on every host; None follows `every` and config.combine.
    view: a leaf-wise re-parameterisation applied and differentiated once per step, outside the micro-batches.
    predict: name to function of (params, ...): what evaluation, the bundle and the programs call.
    evals: name to a schedulable evaluation, called as eval(predict, params) -> {metric: number}.
    model: the Linen module, for notebooks.
  """

  init: Callable[[Rng, Batch], tuple[Params, Extras]]
  phases: tuple[Phase, ...]
  prepare: Callable[[Batch, Rng], Batch] = no_preparation
  due: Callable[[int], Due] | None = None
  view: Callable[[Params], Params] | None = None
  predict: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
  evals: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  model: Any = None

  def __post_init__(self):
    trains: dict[str, str] = {}
    names = [phase.name for phase in self.phases]
    if not names:
      raise ValueError("a recipe needs one phase at least")
    if len(set(names)) < len(names):
      raise ValueError(f"phase names must differ; found {names}")
    others = (*names, *OWN)
    for name in self.evals:
      if name in others:
        raise ValueError(f"config.evals.{name} has the name of other metrics; legal: any but {', '.join(others)}")
    for phase in self.phases:
      if trains.setdefault(phase.slot, phase.trains) != phase.trains:
        raise ValueError(
          f"phases that share the optimiser {phase.slot!r} must train the same leaves; "
          f"found {trains[phase.slot]!r} and {phase.trains!r}"
        )

  def phase(self, name: str) -> Phase:
    return config.choose("phase", name, {p.name: p for p in self.phases})

  @property
  def slots(self) -> dict[str, Phase]:
    """Optimiser slot to the first phase that uses it."""
    slots: dict[str, Phase] = {}
    for phase in self.phases:
      slots.setdefault(phase.slot, phase)
    return slots
