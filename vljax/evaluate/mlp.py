"""MLP probes: what a small network reads off features that stay as they are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vljax.types import Array, Float, Int

OPTIMIZER = optax.adamw(1e-3, weight_decay=1e-4)
"""The rate stays as it is, since the best network of all rounds is kept."""


def evaluate(
  train_z: Float[np.ndarray, "m d"],
  train_labels: Int[np.ndarray, " m"],
  test_z: Float[np.ndarray, "n d"],
  test_labels: Int[np.ndarray, " n"],
  width: int | None = None,
  rounds: int = 30,
  steps: int = 100,
  batch: int = 256,
  validation: float = 0.2,
) -> dict[str, float]:
  """`top1` of a network with one hidden layer, and its chance: the share of the most frequent class.

  Features are standardized by the training ones. After each round of steps a part of the training features, which is
  not trained on, says whether the network is the best so far; the best one is tested.

  Args:
    width: of the hidden layer; that of the features if not given.

  Raises:
    ValueError: too few training features to hold a part of them out, or labels that do not fit the features.
  """
  train_z, test_z = np.asarray(train_z, np.float32), np.asarray(test_z, np.float32)
  for z, labels in ((train_z, train_labels), (test_z, test_labels)):
    if labels.shape != z.shape[:1] or not len(z) or labels.min() < 0:
      raise ValueError(f"labels must be a class for each of {len(z)} features; found {labels.shape}")
  mean, deviation = train_z.mean(0), train_z.std(0) + 1e-6
  train_z, test_z = (train_z - mean) / deviation, (test_z - mean) / deviation
  classes = int(max(train_labels.max(), test_labels.max())) + 1
  rng = np.random.default_rng(0)
  held, kept = np.split(rng.permutation(len(train_z)), [int(validation * len(train_z))])
  if not len(held):
    raise ValueError(f"{len(train_z)} training features have no part of {validation:.0%} to choose the best round on")
  params: Any = _init(rng, train_z.shape[1], width or train_z.shape[1], classes)
  state, best = (params, OPTIMIZER.init(params)), (-1.0, params)
  z, labels = jnp.asarray(train_z), jnp.asarray(train_labels)
  for _ in range(rounds):
    state = _round(state, z, labels, jnp.asarray(rng.choice(kept, (steps, batch))))
    accuracy = _accuracy(state[0], train_z[held], train_labels[held])
    best = max(best, (accuracy, state[0]), key=lambda found: found[0])
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
  return float((np.asarray(_logits(params, z)).argmax(1) == labels).mean())
