"""When a run evaluates, what, and on which weights."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vljax.types import Params

Predict = Mapping[str, Callable]


@dataclasses.dataclass(frozen=True)
class Eval:
  """An evaluation with its schedule; what the values of `Recipe.evals` are.

  Attributes:
    function: (predict, params) -> {metric: number}; `predict` is the recipe's, whose functions take params first.
    every: runs after each step that this divides; 0 means after the last step only.
    weights: "ema" reads the moving average where the run keeps one, else the parameters; "params" reads the latter.
    first: also before the first step, to see chance.
    open: opens its data; a run calls it before it trains, so that a file which is missing is known at once.
  """

  function: Callable[[Predict, Params], Mapping[str, float]]
  every: int = 0
  weights: str = "ema"
  first: bool = False
  open: Callable[[], Any] = lambda: None

  def __post_init__(self):
    if self.weights not in ("ema", "params"):
      raise ValueError(f"an evaluation's weights = {self.weights!r}; legal: 'ema', 'params'")
    if self.every < 0:
      raise ValueError(f"an evaluation's every = {self.every}; legal: 0 (the last step only) or more")

  def __call__(self, predict: Predict, params: Params) -> dict[str, float]:
    return {name: float(value) for name, value in self.function(predict, params).items()}

  def due(self, step: int, last: bool = False) -> bool:
    """Whether it runs when `step` steps are done; `last` says that no more follow."""
    return last or (step == 0 and self.first) or (step > 0 and self.every > 0 and step % self.every == 0)


def due(evals: Mapping[str, Eval], step: int, last: bool = False) -> dict[str, Eval]:
  """Those that run when `step` steps are done; `last` says that no more follow."""
  return {name: evaluation for name, evaluation in evals.items() if evaluation.due(step, last)}


def run(evals: Mapping[str, Eval], predict: Predict, params: Params, *, ema: Params = None) -> dict[str, float]:
  """What evaluations report, as `name/metric`.

  Args:
    evals: the same on every process.
    ema: the moving average of the parameters, None where the run keeps none.
  """
  report: dict[str, float] = {}
  for name, evaluation in evals.items():
    weights = ema if evaluation.weights == "ema" and ema is not None else params
    report |= {f"{name}/{metric}": value for metric, value in evaluation(predict, weights).items()}
  return report
