"""Options by log-likelihood, averaged over the orders of the examples."""

import numpy as np
import pytest

from vljax.evaluate import ranking


def test_few_orders_are_all_of_them():
  assert ranking.orders(0) == [()]
  assert ranking.orders(1) == [(0,)]
  assert sorted(ranking.orders(3)) == [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


def test_many_orders_are_drawn():
  found = ranking.orders(8, seed=1)
  assert len(set(found)) == 6
  assert found[0] == tuple(range(8))
  assert all(sorted(order) == list(range(8)) for order in found)
  assert found == ranking.orders(8, seed=1) != ranking.orders(8, seed=2)
  assert ranking.orders(8, 1) == [tuple(range(8))]
  assert len(ranking.orders(32)) == 6


def test_log_likelihoods_are_averaged():
  asked = []

  def score(prompt, options):
    asked.append((prompt, options))
    return {"a": [-1.0, -2.0], "b": [-5.0, -1.0]}[prompt[0]]

  found = ranking.scores(score, [["a"], ["b"]], ["x", "y"])
  assert found.tolist() == [-3.0, -1.5]
  assert asked == [(["a"], ["x", "y"]), (["b"], ["x", "y"])]
  with pytest.raises(ValueError, match=r"score gave \(2,\) numbers for 3 options"):
    ranking.scores(score, [["a"]], ["x", "y", "z"])
  with pytest.raises(ValueError, match="no options"):
    ranking.scores(score, [["a"]], [])


@pytest.mark.parametrize(
  ("values", "right", "found"),
  [
    ([-1.0, -2.0], [0], (0, True)),
    ([-1.0, -2.0], [1], (0, False)),
    ([-1.0, -1.0], [0], (1, False)),
    ([-1.0, -1.0], [0, 1], (0, True)),
    ([np.nan, -2.0], [1], (1, True)),
    ([np.nan, np.nan], [1], (0, False)),
  ],
)
def test_ties_and_what_is_no_number_are_lost(values, right, found):
  assert ranking.best(np.array(values), right) == found
