"""Learning rate schedules: pure functions of the step."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp

from vljax import config
from vljax.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """The learning rate at a step.

  Attributes:
    name: the shape after the warm-up. `constant`; `cosine` to `final * lr`; `rsqrt`, lr * sqrt(t0 / max(t0, step));
      `wsd`, warmup-stable-decay (arXiv 2404.06395): constant, then linear to `final * lr` over the last `decay` share.
    lr: the peak; with `scaling` that of a reference batch.
    scaling: what the batch makes of `lr`: `linear`, lr * batch / 256 (arXiv 1706.02677; SimCLR: lr = 0.3); `sqrt`,
      lr * sqrt(batch) (SimCLR, arXiv 2002.05709, appendix B.1: lr = 0.075); `none`.
    warmup: steps of linear warm-up from 0.
    final: the share of the peak that is left at the end.
    decay: `wsd`: the share of all steps that decays.
    timescale: `rsqrt`: t0 in steps.
  """

  name: Literal["constant", "cosine", "rsqrt", "wsd"] = "cosine"
  lr: float = 1e-3
  scaling: Literal["none", "linear", "sqrt"] = "none"
  warmup: int = 0
  final: float = 0.0
  decay: float = 0.1
  timescale: int = 10_000

  def __post_init__(self):
    shares = dict.fromkeys(("final", "decay"), "0 to 1")
    config.check_ranges(
      "config.schedule", self, lr="finite, 0 or more", warmup="0 or more", **shares, timescale="1 or more"
    )

  def peak(self, batch: int) -> float:
    """The greatest learning rate of a run with this batch."""
    return self.lr * {"none": 1.0, "linear": batch / 256, "sqrt": batch**0.5}[self.scaling]


def build(schedule: Schedule, steps: int, batch: int = 256) -> Callable[[Array], Array]:
  """step -> learning rate, for a run of `steps` of `batch` examples.

  Raises:
    ValueError: the warm-up is longer than the run.
  """
  peak = schedule.peak(batch)
  if schedule.warmup > steps:
    raise ValueError(f"config.schedule.warmup = {schedule.warmup} is more than config.steps = {steps}")
  after = max(steps - schedule.warmup, 1)

  def shape(step):
    past = jnp.clip((step - schedule.warmup) / after, 0.0, 1.0)
    if schedule.name == "constant":
      return jnp.ones(())
    if schedule.name == "cosine":
      return schedule.final + (1 - schedule.final) * 0.5 * (1 + jnp.cos(jnp.pi * past))
    if schedule.name == "rsqrt":
      return jnp.sqrt(schedule.timescale / jnp.maximum(schedule.timescale, step))
    left = jnp.clip((steps - step) / max(schedule.decay * steps, 1), 0.0, 1.0)
    return schedule.final + (1 - schedule.final) * left

  def rate(step):
    step = jnp.asarray(step, jnp.float32)
    warm = jnp.minimum(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    return peak * warm * shape(step)

  return rate
