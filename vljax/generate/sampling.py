"""The choice of the next token."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vljax.types import Rng


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sampling:
  """How a token is drawn from softmax(logits / temperature).

  Attributes:
    temperature: above 0; None takes the likeliest token always.
    top_k: only the k likeliest are drawn (arXiv 1805.04833).
    top_p: after that, only the likeliest whose shares together reach p (arXiv 1904.09751).
  """

  temperature: float | Float[Array, ""] | None = None
  top_k: int | Int[Array, ""] | None = None
  top_p: float | Float[Array, ""] | None = None

  def check(self) -> "Sampling":
    """Itself.

    Raises:
      ValueError: a number out of range, or one that a greedy choice does not use.
    """
    given = {name: value for name, value in vars(self).items() if value is not None}
    if given and self.temperature is None:
      raise ValueError(f"{' and '.join(given)} without a temperature: the likeliest token is not drawn")
    for name, fine in (("temperature", lambda t: t > 0), ("top_k", lambda k: k >= 1), ("top_p", lambda p: 0 < p <= 1)):
      if name in given and not fine(given[name]):
        legal = {"temperature": "above 0", "top_k": "1 or more", "top_p": "above 0 and at most 1"}[name]
        raise ValueError(f"{name} = {given[name]}; legal: {legal}")
    return self

  def pick(self, rng: Rng, logits: Float[Array, "n v"]) -> Int[Array, "n"]:
    """A token for each row."""
    if self.temperature is None:
      return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    return jax.random.categorical(rng, self.filtered(logits)).astype(jnp.int32)

  def filtered(self, logits: Float[Array, "n v"]) -> Float[Array, "n v"]:
    """logits / temperature, minus infinity where a token cannot be drawn."""
    logits = logits / self.temperature
    if self.top_k is None and self.top_p is None:
      return logits
    order = jnp.sort(logits, axis=-1, descending=True)
    if self.top_k is not None:
      order = jnp.where(jnp.arange(order.shape[-1]) < self.top_k, order, -jnp.inf)
    count = jnp.isfinite(order).sum(-1)
    if self.top_p is not None:
      share = jax.nn.softmax(order, axis=-1)
      count = jnp.minimum(count, (jnp.cumsum(share, axis=-1) - share < self.top_p).sum(-1))
    least = jnp.take_along_axis(order, count[:, None] - 1, axis=-1)
    return jnp.where(logits >= least, logits, -jnp.inf)
