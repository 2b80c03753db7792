"""Intervals of ratios over whole groups."""

import numpy as np
import pytest

from vljax.evaluate import bootstrap


def test_groups_are_equal_by_text():
  assert bootstrap.members(["b", "a", "b", 1, "1"]).tolist() == [2, 1, 2, 0, 0]


def test_a_mean_of_independent_examples():
  x = np.random.default_rng(0).normal(3.0, 2.0, 400)
  draws = bootstrap.ratios(x, np.ones(400), np.arange(400))
  low, high = bootstrap.interval(draws)
  assert draws.mean() == pytest.approx(x.mean(), abs=0.02)
  assert (high - low) / 2 == pytest.approx(1.96 * x.std() / 20, rel=0.1)


def test_examples_of_one_group_count_as_one():
  x = np.repeat(np.random.default_rng(0).normal(size=50), 8)
  width = lambda member: np.ptp(bootstrap.interval(bootstrap.ratios(x, np.ones(400), member)))
  assert width(np.repeat(np.arange(50), 8)) > 2 * width(np.arange(400))


def test_weights_are_drawn_with_their_sums():
  sums, weights = np.array([1.0, 9.0]), np.array([1.0, 3.0])
  assert set(bootstrap.ratios(sums, weights, np.arange(2)).tolist()) == {1.0, 2.5, 3.0}
