"""Contrastive losses over a batch of pairs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.types import Metrics


def softmax_contrastive(
  image: Float[Array, "n d"],
  text: Float[Array, "n d"],
  scale: Float[Array, ""] | float,
  *,
  label_smoothing: float = 0.0,
) -> tuple[Float[Array, ""], Metrics]:
  """The sum over pairs of the mean of both directions' cross-entropies (CLIP, arXiv 2103.00020, figure 3).

    logits l_ij = scale <image_i, text_j>
    loss = 1/2 sum_i [ -log softmax_j(l_ij)_i - log softmax_j(l_ji)_i ]

  With smoothing e the target of row i is (1 - e) on i and e / n on all n texts, i among them (ALIGN, arXiv 2102.05918,
  section 4). One product of the features serves both directions. Computed in float32; under any sharding of the
  pairs it is the same number, since the arrays are global.

  Returns:
    The sum, and the metrics `accuracy` (share of images and texts whose own counterpart scores highest) and `scale`.
  """
  image, text = image.astype(jnp.float32), text.astype(jnp.float32)
  logits = scale * (image @ text.T)
  own = jnp.where(jnp.eye(len(logits), dtype=bool), logits, 0).sum(1)  # jnp.diagonal would gather sharded logits
  rows, columns = jax.nn.logsumexp(logits, axis=1), jax.nn.logsumexp(logits, axis=0)
  target = (1 - label_smoothing) * own
  if label_smoothing:
    target += label_smoothing / 2 * (logits.mean(1) + logits.mean(0))
  loss = jnp.sum(0.5 * (rows + columns) - target)
  best = (own >= logits.max(1)).mean() + (own >= logits.max(0)).mean()
  return loss, {"accuracy": jax.lax.stop_gradient(0.5 * best), "scale": jnp.asarray(scale, jnp.float32)}
