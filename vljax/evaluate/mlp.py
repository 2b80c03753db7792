"""MLP probes: what a small network reads off features that stay as they are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vljax.evaluate import accuracy
from vljax.types import Array, Float, Int

OPTIMIZER = optax.adamw(1e-3, weight_decay=1e-4)
"""The rate stays as it is, since the best network of all rounds is kept."""

FEWEST = 5
"""One training feature of so many is held out; with fewer there is none."""


def evaluate(
  train_z: Float[np.ndarray, "m d"],
  train_labels: Int[np.ndarray, " m"],
  test_z: Float[np.ndarray, "n d"],
  test_labels: Int[np.ndarray, " n"],
  width: int | None = None,
  rounds: int = 30,
  steps: int = 100,
  batch: int = 256,
) -> dict[str, float]:
  """`top1` of a network with one hidden layer, and its chance: the share of the most frequent class.

  Features are standardized by the training ones. After each round of steps a fifth of the training features, which is
  not trained on, says whether the network is the best so far; the best one is tested. Features that are not numbers
  are never right.

  Args:
    width: of the hidden layer; that of the features if not given.

  Raises:
    ValueError: fewer than FEWEST training features, other widths, or labels that do not fit.
  """
  train_z, test_z = np.asarray(train_z, np.float32), np.asarray(test_z, np.float32)
  if train_z.ndim != 2 or train_z.shape[1:] != test_z.shape[1:] or not len(test_z):
    raise ValueError(f"an MLP probe needs features [m d] and [n d]; found {train_z.shape} and {test_z.shape}")
  if len(train_z) < FEWEST:
    raise ValueError(f"{len(train_z)} training features for an MLP; legal: {FEWEST} or more")
  for z, labels in ((train_z, train_labels), (test_z, test_labels)):
    if labels.shape != z.shape[:1] or labels.min() < 0:
      found = f"{labels.shape}, {labels.min()} to {labels.max()}"
      raise ValueError(f"labels must be a class, 0 or more, for each of {len(z)} features; found {found}")
  mean, deviation = train_z.mean(0), train_z.std(0)
  deviation[deviation < 1e-6] = 1.0  # a feature that is off in training says nothing, however loud it is in the test
  train_z, test_z = (train_z - mean) / deviation, (test_z - mean) / deviation
  classes = int(max(train_labels.max(), test_labels.max())) + 1
  rng = np.random.default_rng(0)
  held, kept = np.split(rng.permutation(len(train_z)), [len(train_z) // FEWEST])
  params: Any = _init(rng, train_z.shape[1], width or train_z.shape[1], classes)
  state, best = (params, OPTIMIZER.init(params)), (-1.0, params)
  z, labels = jnp.asarray(train_z), jnp.asarray(train_labels)
  for _ in range(rounds):
    state = _round(state, z, labels, jnp.asarray(rng.choice(kept, (steps, batch))))
    score = _accuracy(state[0], train_z[held], train_labels[held])
    best = max(best, (score, state[0]), key=lambda found: found[0])
  chance = float(np.bincount(test_labels).max() / len(test_labels))
  return {"top1": _accuracy(best[1], test_z, test_labels), "top1/chance": chance}


def _init(rng: np.random.Generator, d: int, width: int, classes: int) -> dict[str, Float[Array, "..."]]:
  """Hidden weights that keep the size of standardized features (He et al. 2015); all classes are equally likely."""
  hidden = rng.normal(size=(d, width), scale=np.sqrt(2 / d)).astype(np.float32)
  zeros = lambda *shape: jnp.zeros(shape, jnp.float32)
  return {"hidden": jnp.asarray(hidden), "shift": zeros(width), "out": zeros(width, classes), "bias": zeros(classes)}


def _logits(params: dict[str, Array], z: Float[Array, "b d"]) -> Float[Array, "b c"]:
  return jax.nn.relu(z @ params["hidden"] + params["shift"]) @ params["out"] + params["bias"]


@jax.jit
def _round(state: Any, z: Float[Array, "m d"], labels: Int[Array, " m"], drawn: Int[Array, "s b"]) -> Any:
  def loss(params, rows):
    return optax.softmax_cross_entropy_with_integer_labels(_logits(params, z[rows]), labels[rows]).mean()

  def step(state, rows):
    params, moments = state
    updates, moments = OPTIMIZER.update(jax.grad(loss)(params, rows), moments, params)
    return (optax.apply_updates(params, updates), moments), None

  return jax.lax.scan(step, state, drawn)[0]


def _accuracy(params: dict[str, Array], z: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
  return accuracy.top(np.asarray(_logits(params, z)), labels, (1,))["top1"]
