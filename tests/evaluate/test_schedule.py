"""When evaluations run, and on which weights."""

import pytest

from vljax import evaluate

PREDICT = {"twice": lambda params, x: 2 * params * x}


def twice(predict, params):
  return {"value": predict["twice"](params, 1)}


def test_due_are_those_whose_turn_it_is():
  evals = {"a": evaluate.Eval(twice, every=2), "b": evaluate.Eval(twice, every=3), "c": evaluate.Eval(twice)}
  names = lambda step, **more: sorted(evaluate.due(evals, step, **more))
  assert names(0) == names(1) == []
  assert names(2) == ["a"]
  assert names(6) == ["a", "b"]
  assert names(7, last=True) == ["a", "b", "c"]


def test_first_runs_before_the_first_step():
  assert evaluate.due({"a": evaluate.Eval(twice, first=True), "b": evaluate.Eval(twice)}, 0).keys() == {"a"}


def test_weights_choose_the_average_where_there_is_one():
  evals = {"ema": evaluate.Eval(twice, 1), "params": evaluate.Eval(twice, 1, weights="params")}
  assert evaluate.run(evals, PREDICT, 1, ema=10) == {"ema/value": 20.0, "params/value": 2.0}
  assert evaluate.run(evals, PREDICT, 1) == {"ema/value": 2.0, "params/value": 2.0}


def test_bad_schedules_are_named():
  with pytest.raises(ValueError, match="weights = 'emma'; legal: 'ema', 'params'"):
    evaluate.Eval(twice, weights="emma")
  with pytest.raises(ValueError, match="every = -1; legal: 0"):
    evaluate.Eval(twice, every=-1)
