"""What a run measures about itself: metrics fetched a step late, throughput, floating-point work, where time goes."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from vljax.types import Metrics

BUCKETS = ("init", "compile", "data", "step", "checkpoint", "eval")
Row = tuple[int, dict[str, float]]


class Late:
  """Holds a step's metrics on the device until the next step was dispatched, so that the device never waits.

  >>> late = Late()
  >>> late.push(1, {"loss": np.float32(2.0)})
  >>> late.push(2, {"loss": np.float32(1.5)})
  (1, {'loss': 2.0})
  >>> late.flush()
  (2, {'loss': 1.5})
  """

  def __init__(self):
    self._held: tuple[int, Metrics] | None = None

  def push(self, step: int, metrics: Metrics) -> Row | None:
    """Take what step `step` reported, give the numbers of the one before; call it right after dispatching."""
    for x in metrics.values():
      if isinstance(x, jax.Array):
        x.copy_to_host_async()
    before, self._held = self._held, (step, metrics)
    return None if before is None else (before[0], _floats(before[1]))

  def flush(self) -> Row | None:
    """The numbers still held: at the end, or before something that must see them all."""
    held, self._held = self._held, None
    return None if held is None else (held[0], _floats(held[1]))


class Goodput:
  """Seconds of the run by what they were spent on; entering a bucket inside another pauses the outer one."""

  def __init__(self, clock: Callable[[], float] = time.perf_counter):
    self._clock = clock
    self._start = self._mark = clock()
    self._open: list[str] = []
    self._seconds = dict.fromkeys(BUCKETS, 0.0)

  @contextlib.contextmanager
  def track(self, bucket: str) -> Iterator[None]:
    """Count the time inside for `bucket`.

    Raises:
      ValueError: no such bucket.
    """
    if bucket not in self._seconds:
      raise ValueError(f"no time bucket {bucket!r}; legal: {', '.join(BUCKETS)}")
    self._settle()
    self._open.append(bucket)
    try:
      yield
    finally:
      self._settle()
      self._open.pop()

  def seconds(self, *buckets: str) -> float:
    """Time in these buckets until now."""
    self._settle()
    return sum(self._seconds[bucket] for bucket in buckets)

  @property
  def elapsed(self) -> float:
    return self._clock() - self._start

  def report(self) -> dict[str, float]:
    """`time/BUCKET` in seconds, `time/other`, `time/elapsed`, and `time/goodput`: the share spent in steps."""
    self._settle()
    elapsed = self.elapsed
    report = {f"time/{bucket}": seconds for bucket, seconds in self._seconds.items()}
    report["time/other"] = max(0.0, elapsed - sum(self._seconds.values()))
    report["time/elapsed"] = elapsed
    report["time/goodput"] = self._seconds["step"] / elapsed if elapsed else 0.0
    return report

  def _settle(self) -> None:
    now = self._clock()
    if self._open:
      self._seconds[self._open[-1]] += now - self._mark
    self._mark = now


class Meter:
  """Throughput, achieved TFLOP/s and the time left.

  Rates count the time of the buckets `data` and `step` only, so that an evaluation is no dent; the time left counts
  everything but `init` and `compile`. The first step of a program, in which it is compiled, is not counted.

  Args:
    total: the number of the last step.
    start: how many steps were done when this process began.
    horizon: seconds over which the smoothed rates forget.
  """

  def __init__(self, goodput: Goodput, total: int, start: int = 0, horizon: float = 20.0):
    self._goodput, self._total, self._horizon = goodput, total, horizon
    self._done = self._begun = start
    self._whole = np.zeros(3)
    self._smooth = np.zeros(3)
    self._mark = self._compiled = self._base = None

  def tick(self, step: int, examples: float, flops: float = 0.0) -> None:
    """Note that `step` steps are done and what the last one processed."""
    busy, compiled = self._goodput.seconds("data", "step"), self._goodput.seconds("compile")
    self._done = step
    if self._mark is not None and compiled == self._compiled:
      seconds = busy - self._mark
      work = np.array([examples, flops, seconds])
      self._whole += work
      self._smooth = self._smooth * math.exp(-seconds / self._horizon) + work
    if self._base is None:
      self._base, self._begun = self._running(), step
    self._mark, self._compiled = busy, compiled

  def report(self) -> dict[str, float]:
    """`throughput/{examples_per_second, examples_per_second_mean, tflops_per_second}` and `time/left` in seconds.

    The mean is that since the start, the others are smoothed. Empty before the second step; TFLOP/s needs flops.
    """
    if not self._smooth[2]:
      return {}
    report = {
      "throughput/examples_per_second": self._smooth[0] / self._smooth[2],
      "throughput/examples_per_second_mean": self._whole[0] / self._whole[2],
    }
    if self._smooth[1]:
      report["throughput/tflops_per_second"] = self._smooth[1] / self._smooth[2] / 1e12
    if self._done > self._begun:
      each = (self._running() - self._base) / (self._done - self._begun)
      report["time/left"] = max(0, self._total - self._done) * each
    return {name: float(value) for name, value in report.items()}

  def _running(self) -> float:
    return self._goodput.elapsed - self._goodput.seconds("init", "compile")


def flops(jaxpr: Any) -> float:
  """Floating-point operations of the matrix products and convolutions of a jaxpr, on all devices together.

  XLA's own `compiled.cost_analysis()` counts the body of a loop once, which makes a scanned stack of layers look like
  a single layer; here a scan counts times its length, a conditional as its dearest branch, and a while loop, whose
  length is unknown, once. Recomputation under `remat` counts. `jax.jit(f).trace(*args).jaxpr` is a jaxpr.
  """
  return sum(_equation_flops(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _equation_flops(equation: Any) -> float:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    return 2.0 * equation.outvars[0].aval.size * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval
    return 2.0 * equation.outvars[0].aval.size * kernel.size / kernel.shape[params["dimension_numbers"].rhs_spec[0]]
  if name == "pallas_call":
    estimate = params.get("cost_estimate")
    return float(estimate.flops) if estimate is not None else 0.0
  if name == "cond":
    return max(map(flops, params["branches"]))
  times = params["length"] if name == "scan" else params["mesh"].size if name == "shard_map" else 1
  inner = (x for value in params.values() for x in (value if isinstance(value, tuple | list) else (value,)))
  return times * sum(flops(x) for x in inner if hasattr(getattr(x, "jaxpr", x), "eqns"))


def _floats(metrics: Mapping[str, Any]) -> dict[str, float]:
  for name, x in metrics.items():
    if np.ndim(x):
      raise ValueError(f"the metric {name!r} has the shape {np.shape(x)}; a metric is a scalar")
  return {name: float(x) for name, x in jax.device_get(dict(metrics)).items()}
