"""Retrieval between two modalities that may never have been trained together, with the doubt of a small sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vljax.evaluate import bootstrap, retrieval
from vljax.types import Array, Float


def between(
  query_z: Float[Array | np.ndarray, "n d"],
  answer_z: Float[Array | np.ndarray, "n d"],
  groups: Sequence[Any],
  ks: Sequence[int] = (1, 5, 10),
  seed: int = 0,
) -> dict[str, float]:
  """`R@K`: the share of queries whose own answer (row i's is i) is among the K nearest of all answers; `R@K/chance`.

  `R@K/low` is the lower end of its 95 % bootstrap interval: the 2.5 % quantile over 2000 draws, with return, of whole
  groups, since queries of one group (the skin tones of one emoji, the voices of one name) fail or succeed together.
  Ties count against us (see `retrieval.ranks`).

  Raises:
    ValueError: not one answer and one group for each query.
  """
  if not len(query_z) == len(answer_z) == len(groups):
    found = f"{len(query_z)} queries, {len(answer_z)} answers, {len(groups)} groups"
    raise ValueError(f"every query has one answer and one group; found {found}")
  rank, _ = retrieval.ranks(query_z, answer_z)
  member = bootstrap.members(groups)
  results: dict[str, float] = {}
  for k in ks:
    results[f"R@{k}"] = float(np.mean(rank <= k))
    results[f"R@{k}/chance"] = min(1.0, k / len(rank))
    results[f"R@{k}/low"], _ = bootstrap.interval(bootstrap.ratios(rank <= k, np.ones(len(rank)), member, seed))
  return results
