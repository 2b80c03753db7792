"""Language modeling: how unlikely the next tokens are."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vljax.types import Metrics

CHUNK = 2**26
"""Scores [b t v] that are held at a time: 256 MiB in float32."""


def log_likelihood(logits: Float[Array, "*b v"], tokens: Int[Array, "*b"]) -> Float[Array, "*b"]:
  """log softmax(logits) at each token, in float32."""
  logits = logits.astype(jnp.float32)
  own = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
  return own - jax.nn.logsumexp(logits, axis=-1)


def next_token(
  head: Callable[[Float[Array, "b s d"]], Float[Array, "b s v"]],
  x: Float[Array, "b t d"],
  tokens: Int[Array, "b t"],
  weights: Float[Array, "b t"],
  *,
  chunk: int = CHUNK,
) -> tuple[Float[Array, ""], Metrics]:
  """The sum over tokens of -weight * log p(token | those before it): position i of x foretells token i + 1.

  Args:
    head, chunk: of `rows`.
    weights: of each token as a target; the first has none before it and does not count. 0 hides a token.

  Returns:
    The sum, and the metric `token_accuracy`: the share of the weighted tokens that the head puts first.
  """
  loss, right = rows(head, x, tokens, weights, chunk=chunk)
  accuracy = jax.lax.stop_gradient(right.sum()) / jnp.maximum(weights[:, 1:].astype(jnp.float32).sum(), 1e-6)
  return loss.sum(), {"token_accuracy": accuracy}


def rows(
  head: Callable[[Float[Array, "b s d"]], Float[Array, "b s v"]],
  x: Float[Array, "b t d"],
  tokens: Int[Array, "b t"],
  weights: Float[Array, "b t"],
  *,
  chunk: int = CHUNK,
) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
  """For each row the sum of -weight * log p of its tokens, and the weight of those that the head puts first.

  Where there are many, the scores of all positions are never held together: `head` runs on a few positions at a time,
  and again in the backward pass. Those of 32 texts of 256 tokens and a vocabulary of 49,152 would take 1.6 GB.

  Args:
    head: final norm and projection to the vocabulary.
    chunk: scores that may be held at a time.
  """
  b, t = tokens.shape
  targets, weights = tokens[:, 1:], weights[:, 1:].astype(jnp.float32)
  vocab = jax.eval_shape(head, x[:, :1]).shape[-1]
  step = max(1, min(t - 1, chunk // max(1, b * vocab)))
  pieces = -(-(t - 1) // step)

  def cut(y: Array) -> Array:
    y = jnp.pad(y, [(0, 0), (0, pieces * step - (t - 1))] + [(0, 0)] * (y.ndim - 2))
    return y.reshape(b, pieces, step, *y.shape[2:]).swapaxes(0, 1)

  def piece(part: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    x, targets, weights = part
    logits = head(x)
    right = (logits.argmax(-1) == targets) * weights
    return -jnp.sum(weights * log_likelihood(logits, targets), 1), jnp.sum(right, 1)

  if pieces == 1:
    return piece((x[:, :-1], targets, weights))
  loss, right = jax.lax.map(jax.checkpoint(piece), (cut(x[:, :-1]), cut(targets), cut(weights)))
  return loss.sum(0), right.sum(0)


def token_weight(weights: Float[Array, "b t"]) -> Float[Array, ""]:
  """What `next_token` is divided by: the sum of the weights of all targets, 1 if none has any."""
  return jnp.maximum(weights[:, 1:].astype(jnp.float32).sum(), 1.0)
