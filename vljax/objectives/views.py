"""Losses of two views of each example: those of SimCLR's table 4, and what followed it.

All take the projections of the first and of the second views, [n d] each, and give a sum over the n examples: divided
by n it is the mean over all 2 n views (the paper's), or with the scaling of the released code twice that.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljax import config
from vljax.types import Metrics

VIEWS = 2
HIDDEN = -1e9
Scaling = Literal["paper", "released"]


class Scores(NamedTuple):
  """Products of all 2 n views with each other, the first views before the second."""

  s: Float[Array, "m m"]
  same: Bool[Array, "m m"]
  """A view and itself."""
  paired: Bool[Array, "m m"]
  """The two views of an example."""

  @property
  def positive(self) -> Float[Array, " m"]:
    """The score of each view with its partner."""
    return jnp.where(self.paired, self.s, 0).sum(1)

  @property
  def negative(self) -> Bool[Array, "m m"]:
    """Views of other examples."""
    return ~(self.same | self.paired)


def scores(a: Float[Array, "n d"], b: Float[Array, "n d"], normalize: bool = True) -> Scores:
  """Cosines of all views, or without `normalize` their inner products, in float32."""
  z = jnp.concatenate([a, b]).astype(jnp.float32)
  if normalize:
    z *= jax.lax.rsqrt(jnp.maximum(jnp.square(z).sum(-1, keepdims=True), 1e-24))
  same = jnp.eye(len(z), dtype=bool)
  return Scores(z @ z.T, same, jnp.roll(same, len(a), axis=1))


def nt_xent(
  a: Float[Array, "n d"],
  b: Float[Array, "n d"],
  *,
  temperature: float = 0.1,
  normalize: bool = True,
  decoupled: bool = False,
  scaling: Scaling = "paper",
) -> tuple[Float[Array, ""], Metrics]:
  """Cross-entropy of finding the partner among all other views (SimCLR, arXiv 2002.05709, equation 1).

  Args:
    decoupled: the partner is left out of the denominator (DCL, arXiv 2110.06848).
    scaling: the paper's mean over 2 n views, or twice that, as in the released code.

  Returns:
    The sum, and `accuracy` (views whose partner scores highest) and `entropy` (of the softmax, in nats), which table 5
    of the paper reports.
  """
  found = scores(a, b, normalize)
  logits = jnp.where(found.same, HIDDEN, found.s / temperature)
  positive = found.positive / temperature
  rest = jax.nn.logsumexp(jnp.where(found.paired, HIDDEN, logits) if decoupled else logits, axis=1)
  logs = jax.nn.log_softmax(logits)
  metrics = {
    "accuracy": (positive >= logits.max(1)).mean(),
    "entropy": -(jnp.exp(logs) * jnp.where(found.same, 0, logs)).sum(1).mean(),
  }
  return _scale(rest - positive, scaling), jax.lax.stop_gradient(metrics)


def nt_logistic(
  a: Float[Array, "n d"],
  b: Float[Array, "n d"],
  *,
  temperature: float = 0.1,
  normalize: bool = True,
  semi_hard: bool = False,
  scaling: Scaling = "paper",
) -> tuple[Float[Array, ""], Metrics]:
  """-log sigmoid of the partner's score, - log sigmoid of the negated mean of the others' (table 2 of SimCLR).

  Args:
    semi_hard: of the others only the highest that is below the partner (FaceNet, arXiv 1503.03832).
  """
  found = scores(a, b, normalize)
  losses = jax.nn.softplus(found.s / temperature)
  chosen = semi_hard_negatives(found) if semi_hard else found.negative
  other = jnp.where(chosen, losses, 0).sum(1) / jnp.maximum(chosen.sum(1), 1)
  return _scale(jax.nn.softplus(-found.positive / temperature) + other, scaling), _accuracy(found)


def margin(
  a: Float[Array, "n d"],
  b: Float[Array, "n d"],
  *,
  margin: float = 0.4,
  normalize: bool = True,
  semi_hard: bool = False,
  scaling: Scaling = "paper",
) -> tuple[Float[Array, ""], Metrics]:
  """The mean over other views of max(0, other's score - partner's + margin) (triplet; table 2 of SimCLR)."""
  found = scores(a, b, normalize)
  losses = jax.nn.relu(found.s - found.positive[:, None] + margin)
  chosen = semi_hard_negatives(found) if semi_hard else found.negative
  return _scale(jnp.where(chosen, losses, 0).sum(1) / jnp.maximum(chosen.sum(1), 1), scaling), _accuracy(found)


def semi_hard_negatives(found: Scores) -> Bool[Array, "m m"]:
  """For each view the other example's view with the highest score below its partner's; none where all are above."""
  below = found.negative & (found.s < found.positive[:, None])
  best = jnp.where(below, found.s, -jnp.inf)
  first = jnp.arange(found.s.shape[1]) == best.argmax(1)[:, None]
  return jax.lax.stop_gradient(below & first)


def supervised_contrastive(
  a: Float[Array, "n d"],
  b: Float[Array, "n d"],
  labels: Int[Array, " n"],
  *,
  temperature: float = 0.1,
  normalize: bool = True,
) -> tuple[Float[Array, ""], Metrics]:
  """NT-Xent whose partners are all views of the class, averaged outside of the log (arXiv 2004.11362, eq. 2)."""
  found = scores(a, b, normalize)
  labels = jnp.tile(labels, VIEWS)
  partners = (labels[:, None] == labels) & ~found.same
  logs = jax.nn.log_softmax(jnp.where(found.same, HIDDEN, found.s / temperature))
  losses = -jnp.where(partners, logs, 0).sum(1) / partners.sum(1)
  return losses.sum() / VIEWS, _accuracy(found)


LOSSES = {
  "nt_xent": nt_xent,
  "nt_logistic": nt_logistic,
  "margin": margin,
  "supervised_contrastive": supervised_contrastive,
}


def needs_labels(options: Mapping[str, Any]) -> bool:
  """Whether the loss of a dict, as `loss` takes it, is one of classes."""
  return options.get("name") == "supervised_contrastive"


def loss(options: Mapping[str, Any]):
  """(a, b, labels) -> (sum, metrics) of a dict with the loss's `name` and its keyword arguments.

  Only a loss that `needs_labels` looks at them.

  Raises:
    ValueError: an unknown name.
  """
  labelled, options = needs_labels(options), dict(options)
  function = config.choose("loss of two views", options.pop("name", "nt_xent"), LOSSES)
  return lambda a, b, labels=None: function(a, b, *((labels,) if labelled else ()), **options)


def _scale(losses: Float[Array, " m"], scaling: Scaling) -> Float[Array, ""]:
  factors = {"paper": 1 / VIEWS, "released": 1.0}
  return losses.sum() * config.choose("scaling of a loss of two views", scaling, factors)


def _accuracy(found: Scores) -> Metrics:
  highest = jnp.where(found.same, -jnp.inf, found.s).max(1)
  return {"accuracy": jax.lax.stop_gradient((found.positive >= highest).mean())}
