"""Linear probes: multinomial logistic regression on features that stay as they are."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from vljax.evaluate import accuracy
from vljax.types import Array, Float, Int

PENALTIES = tuple(np.logspace(-6, 5, 45))
"""Of the sweep: 45 logarithmically spaced values (Kornblith et al., arXiv 1805.08974; SimCLR, appendix B.8)."""


class Linear(NamedTuple):
  """Logits z @ weight + bias."""

  weight: Float[np.ndarray, "d c"]
  bias: Float[np.ndarray, " c"]

  def __call__(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
    return np.asarray(z) @ self.weight + self.bias


def fit(
  z: Float[np.ndarray, "n d"],
  labels: Int[np.ndarray, " n"],
  penalty: float,
  classes: int | None = None,
  start: Linear | None = None,
  iterations: int = 500,
) -> Linear:
  """The minimum of mean cross-entropy + penalty / (2 n) |weight|^2 by L-BFGS; the bias is not penalised.

  Args:
    start: where to begin, such as the solution for a near penalty.

  Raises:
    ValueError: labels that do not fit the features or the number of classes.
  """
  z, labels = np.asarray(z, np.float32), np.asarray(labels)
  classes = int(labels.max()) + 1 if classes is None else classes
  if labels.shape != z.shape[:1] or labels.min() < 0 or labels.max() >= classes:
    raise ValueError(f"labels must be one of {classes} classes for each of {len(z)} features; found {labels.shape}, "
                     f"{labels.min()} to {labels.max()}")  # fmt: skip
  shape = (z.shape[1] + 1, classes)
  first = np.zeros(shape) if start is None else np.vstack([start.weight, start.bias])
  device = jnp.asarray(z), jnp.asarray(labels), jnp.float32(penalty / len(z))

  def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
    value, gradient = _objective(jnp.asarray(x.reshape(shape), jnp.float32), *device)
    return float(value), np.asarray(gradient, np.float64).ravel()

  options = dict(maxiter=iterations, gtol=1e-5)
  found = scipy.optimize.minimize(objective, first.ravel(), jac=True, method="L-BFGS-B", options=options)
  solution = found.x.reshape(shape).astype(np.float32)
  return Linear(solution[:-1], solution[-1])


@functools.partial(jax.jit)
def _objective(x: Float[Array, "e c"], z: Float[Array, "n d"], labels: Int[Array, " n"], penalty: Float[Array, ""]):
  def loss(x):
    logs = jax.nn.log_softmax(z @ x[:-1] + x[-1])
    entropy = -jnp.take_along_axis(logs, labels[:, None], axis=1).mean()
    return entropy + 0.5 * penalty * jnp.square(x[:-1]).sum()

  return jax.value_and_grad(loss)(x)


def evaluate(
  train_z: Float[np.ndarray, "m d"],
  train_labels: Int[np.ndarray, " m"],
  test_z: Float[np.ndarray, "n d"],
  test_labels: Int[np.ndarray, " n"],
  penalties: Sequence[float] = PENALTIES,
  validation: float = 0.2,
  ks: Sequence[int] = (1, 5),
) -> dict[str, float]:
  """`top1`, `top5` and their chance of the probe whose penalty did best on a part of the training features.

  The penalties are tried from the strongest down, each from the solution before; the best is fitted again to all.
  """
  train_z, train_labels = np.asarray(train_z), np.asarray(train_labels)
  classes = int(max(train_labels.max(), np.max(test_labels))) + 1
  held = np.random.default_rng(0).permutation(len(train_z)) < validation * len(train_z)
  best, chosen, probe = -1.0, max(penalties), None
  if len(penalties) > 1:
    for penalty in sorted(penalties, reverse=True):
      probe = fit(train_z[~held], train_labels[~held], penalty, classes, probe)
      score = accuracy.top(probe(train_z[held]), train_labels[held], (1,))["top1"]
      if score > best:
        best, chosen = score, penalty
  logits = fit(train_z, train_labels, chosen, classes)(test_z)
  return accuracy.top(logits, test_labels, ks) | {"penalty": float(chosen)}
