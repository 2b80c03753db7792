"""Nearest neighbors by cosine, and classification by their votes."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vljax.types import Array, Float, Int

BLOCK = (1024, 8192)


def neighbors(
  query: Float[Array | np.ndarray, "n d"],
  gallery: Float[Array | np.ndarray, "m d"],
  k: int,
  block: tuple[int, int] = BLOCK,
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
  """The k largest inner products of each query with the gallery, and whose they are; of equals the first comes first.

  Never holds more than block[0] x (k + block[1]) scores.

  Raises:
    ValueError: k is not within 1 to m, or the widths differ.
  """
  query, gallery = np.asarray(query, np.float32), np.asarray(gallery, np.float32)
  if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
    raise ValueError(f"neighbors needs queries [n d] and a gallery [m d]; found {query.shape} and {gallery.shape}")
  if not 1 <= k <= len(gallery):
    raise ValueError(f"k = {k} neighbors of {len(gallery)} gallery rows; legal: 1 to {len(gallery)}")
  rows, columns = min(block[0], len(query)), min(block[1], len(gallery))
  scores, indices = [np.zeros((0, k), np.float32)], [np.zeros((0, k), np.int32)]
  for first in range(0, len(query), rows):
    part = query[first : first + rows]
    padded = jnp.asarray(np.pad(part, ((0, rows - len(part)), (0, 0))))
    best = jnp.full((rows, k), -jnp.inf), jnp.zeros((rows, k), jnp.int32)
    for start in range(0, len(gallery), columns):
      candidates = gallery[start : start + columns]
      padding = ((0, columns - len(candidates)), (0, 0))
      best = _merge(best, padded, np.pad(candidates, padding), start, len(gallery), k)
    scores.append(np.asarray(best[0])[: len(part)])
    indices.append(np.asarray(best[1])[: len(part)])
  return np.concatenate(scores), np.concatenate(indices)


def classify(
  query: Float[Array | np.ndarray, "n d"],
  gallery: Float[Array | np.ndarray, "m d"],
  labels: Int[Array | np.ndarray, " m"],
  k: int = 20,
  temperature: float | None = 0.07,
  classes: int | None = None,
  block: tuple[int, int] = BLOCK,
) -> Float[np.ndarray, "n c"]:
  """The votes of the k nearest gallery rows for each class.

  A neighbor of cosine s votes exp((s - 1) / temperature) (Wu et al. 2018, arXiv 1805.01978, section 3.4); without a
  temperature every neighbor has one vote. Features are normalised here.

  Raises:
    ValueError: as `neighbors`; labels that do not fit the gallery or the number of classes.
  """
  gallery, labels = np.asarray(gallery), np.asarray(labels)
  if labels.shape != (len(gallery),) or labels.min() < 0:
    raise ValueError(f"labels must be one index for each of {len(gallery)} gallery rows; found {labels.shape}")
  classes = int(labels.max()) + 1 if classes is None else classes
  if labels.max() >= classes:
    raise ValueError(f"labels reach {labels.max()}; legal for {classes} classes: 0 to {classes - 1}")
  scores, indices = neighbors(unit(query), unit(gallery), k, block)
  weights = np.ones_like(scores) if temperature is None else np.exp((scores - 1.0) / temperature)
  votes = np.zeros((len(scores), classes), np.float32)
  np.add.at(votes, (np.arange(len(scores))[:, None], labels[indices]), weights)
  return votes


def evaluate(
  train_z: Float[Array | np.ndarray, "m d"],
  train_labels: Int[Array | np.ndarray, " m"],
  test_z: Float[Array | np.ndarray, "n d"],
  test_labels: Int[Array | np.ndarray, " n"],
  k: int = 20,
  temperature: float | None = 0.07,
  ks: Sequence[int] = (1, 5),
  block: tuple[int, int] = BLOCK,
) -> dict[str, float]:
  """Accuracy of kNN classification: `top1`, `top5` and their chance. Of classes with equal votes the first wins."""
  classes = int(max(np.max(train_labels), np.max(test_labels))) + 1
  votes = classify(test_z, train_z, train_labels, k, temperature, classes, block)
  order = np.argsort(-votes, axis=1, kind="stable")
  hits = order == np.asarray(test_labels)[:, None]
  results = {f"top{j}": float(hits[:, :j].any(1).mean()) for j in ks}
  return results | {f"top{j}/chance": min(1.0, j / classes) for j in ks}


@functools.partial(jax.jit, static_argnames="k")
def _merge(best, query: Float[Array, "n d"], candidates: Float[Array, "m d"], start, total, k: int):
  """The k best of those so far and of one block of the gallery."""
  scores = jnp.einsum("nd,md->nm", query, candidates, precision=jax.lax.Precision.HIGHEST)
  index = start + jnp.arange(len(candidates), dtype=jnp.int32)
  scores = jnp.where(index < total, scores, -jnp.inf)
  scores = jnp.concatenate([best[0], scores], axis=1)
  indices = jnp.concatenate([best[1], jnp.broadcast_to(index, (len(query), len(candidates)))], axis=1)
  top, at = jax.lax.top_k(scores, k)
  return top, jnp.take_along_axis(indices, at, axis=1)


def unit(x: Float[Array | np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
  """Rows of length 1."""
  x = np.asarray(x, np.float32)
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
