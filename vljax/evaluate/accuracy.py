"""Accuracy of scores."""

from collections.abc import Sequence

import numpy as np

from vljax.types import Float, Int


def rank(scores: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
  """How many wrong classes score at least as high as the true one, or are not numbers."""
  right = np.take_along_axis(scores, labels[:, None], axis=1)
  return (~(scores < right)).sum(axis=1) - 1


def top(
  scores: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], ks: Sequence[int] = (1, 5)
) -> dict[str, float]:
  """`top1`, `top5` and their chance; a class that ties with the true one counts as before it.

  Raises:
    ValueError: shapes that do not fit, or a label that is no class.
  """
  scores, labels = np.asarray(scores), np.asarray(labels)
  if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
    raise ValueError(f"accuracy needs scores [n c] and labels [n]; found {scores.shape} and {labels.shape}")
  classes = scores.shape[1]
  if labels.min() < 0 or labels.max() >= classes:
    raise ValueError(f"labels hold {labels.min()} to {labels.max()}; legal for {classes} scores: 0 to {classes - 1}")
  before = rank(scores, labels)
  results = {f"top{k}": float(np.mean(before < k)) for k in ks}
  return results | {f"top{k}/chance": min(1.0, k / classes) for k in ks}
