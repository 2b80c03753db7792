"""How far a number could lie elsewhere with other held-out examples: the bootstrap over groups of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vljax.types import Float, Int

DRAWS = 2000
LEVELS = (0.025, 0.975)
"""Ends of a 95 % interval."""


def members(groups: Sequence[Any]) -> Int[np.ndarray, " n"]:
  """The number of each example's group; groups are equal if their texts are."""
  return np.unique(np.asarray(list(map(str, groups))), return_inverse=True)[1]


def ratios(
  sums: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], member: Int[np.ndarray, " n"], seed: int = 0
) -> Float[np.ndarray, " draws"]:
  """sum(sums) / sum(weights) over whole groups drawn with return, as many as there are, 2000 times.

  Examples of one group (captions of one picture, skin tones of one emoji) fail or succeed together, so that they count
  as one. The same seed and groups draw the same, which pairs the draws of two quantities.
  """
  count = int(member.max()) + 1
  drawn = np.random.default_rng(seed).integers(0, count, (DRAWS, count))
  total = np.bincount(member, weights=sums, minlength=count)
  weight = np.bincount(member, weights=weights, minlength=count)
  return total[drawn].sum(1) / weight[drawn].sum(1)


def interval(draws: Float[np.ndarray, " draws"]) -> tuple[float, float]:
  """The 95 % interval of bootstrapped values."""
  low, high = np.quantile(draws, LEVELS)
  return float(low), float(high)
