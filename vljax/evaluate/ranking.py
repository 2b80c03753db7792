"""Closed questions: the options by how likely a model finds each after the prompt."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vljax.types import Float

Score = Callable[[list[Any], list[str]], Float[np.ndarray, " n"]]
"""(prompt, options) -> the log-likelihood of each option as the text that follows."""

PERMUTATIONS = 6


def orders(count: int, most: int = PERMUTATIONS, seed: int = 0) -> list[tuple[int, ...]]:
  """At most `most` different orders of 0 .. count - 1, the given one first, the others at random."""
  total = math.factorial(min(count, 20))
  if total <= most:
    return list(itertools.permutations(range(count)))
  rng, found = np.random.default_rng((seed, count)), {tuple(range(count)): None}
  while len(found) < most:
    found[tuple(rng.permutation(count).tolist())] = None
  return list(found)


def scores(score: Score, prompts: Sequence[list[Any]], options: Sequence[str]) -> Float[np.ndarray, " n"]:
  """The mean log-likelihood of each option over several prompts for one question.

  Flamingo's ensembling (arXiv 2204.14198, table 6): the prompts differ in the order of their examples, 6 of them.

  Raises:
    ValueError: no option, or `score` did not give a number for each.
  """
  if not len(options):
    raise ValueError("there are no options to rank")
  found = np.array([np.asarray(score(list(prompt), list(options)), np.float64) for prompt in prompts])
  if found.shape != (len(prompts), len(options)):
    raise ValueError(f"score gave {found.shape[1:]} numbers for {len(options)} options")
  return found.mean(axis=0)


def best(values: Float[np.ndarray, " n"], right: Sequence[int]) -> tuple[int, bool]:
  """The number of the likeliest option, and whether it is one of `right`; a tie with a wrong option is lost."""
  values = np.where(np.isnan(values), -np.inf, values)
  top = np.flatnonzero(values == values.max())
  wrong = [int(i) for i in top if i not in right]
  return (wrong[0], False) if wrong else (int(top[0]), True)
