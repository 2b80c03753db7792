"""Training and validation parts that no group of examples straddles, equal on every machine."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from vljax import config

NAMES = {"train": False, "val": True}


def validation(groups: Sequence[Any], holdout: int | float, seed: int = 0) -> np.ndarray:
  """A mask [n] of the rows whose group is held out.

  Groups are ordered by sha256 of "seed:group" and the first `holdout` of them are held out, so the choice depends on
  nothing but the seed and the set of groups. A fraction in (0, 1) holds out each group whose hash, read as a number
  in [0, 1), lies below it: a group then stays on its side when others come or go.

  Raises:
    ValueError: holdout is not in the range, or one of the sides would be empty.
  """
  names = [str(group) for group in groups]
  ranks = {name: rank(name, seed) for name in names}
  if isinstance(holdout, bool) or not (0 < holdout < 1 or (float(holdout).is_integer() and holdout >= 1)):
    raise ValueError(f"holdout = {holdout} is neither a number of groups (1 or more) nor a fraction between 0 and 1")
  if holdout < 1:
    held = {name for name, value in ranks.items() if value < holdout * 2**64}
  else:
    held = set(sorted(ranks, key=lambda name: (ranks[name], name))[: int(holdout)])
  if not held or len(held) == len(ranks):
    raise ValueError(f"holdout = {holdout} takes {len(held)} of {len(ranks)} groups; both sides need one at least")
  return np.array([name in held for name in names])


def rank(name: str, seed: int = 0) -> int:
  """A number in [0, 2^64) from sha256 of "seed:name"."""
  return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")


def indices(groups: Sequence[Any], part: Literal["train", "val"], holdout: int | float, seed: int = 0) -> np.ndarray:
  """The row numbers of one side, ascending.

  Raises:
    ValueError: an unknown part, or see `validation`.
  """
  wanted = config.choose("split", part, NAMES)
  return np.flatnonzero(validation(groups, holdout, seed) == wanted)
