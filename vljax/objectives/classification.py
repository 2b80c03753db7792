"""Cross-entropy with soft targets."""

import jax
import jax.numpy as jnp

from vljax.types import Array, Float, Int, Metrics


def targets(labels: Int[Array, " b"], classes: int, smoothing: float = 0.0) -> Float[Array, "b k"]:
  """One-hot labels, the share `smoothing` of each spread over all classes (arXiv 1512.00567, section 7).

  A label that is no class gives NaN, at which a run stops, where zeros would let it go on.
  """
  legal = (labels >= 0) & (labels < classes)
  return jnp.where(legal[:, None], (1.0 - smoothing) * jax.nn.one_hot(labels, classes) + smoothing / classes, jnp.nan)


def cross_entropy(logits: Float[Array, "b k"], target: Float[Array, "b k"]) -> tuple[Float[Array, ""], Metrics]:
  """(the sum over examples of -sum target * log softmax(logits), {`top1`: share whose best class is the target's})."""
  loss = -jnp.sum(target * jax.nn.log_softmax(logits.astype(jnp.float32)))
  return loss, {"top1": jnp.mean(logits.argmax(-1) == target.argmax(-1))}
