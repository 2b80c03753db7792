"""Exponential moving average of the parameters, its length counted in examples."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from vljax import config
from vljax.types import Array, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ema:
  """How the average forgets: after `halflife` examples a parameter's weight has halved.

  Counted in examples, the setting does not change with the batch. A decay of d per step of b examples is a half-life
  of b * ln 2 / -ln d.

  Attributes:
    halflife: in examples, 1 or more.
    ramp: the half-life is at most this share of the examples seen so far (StyleGAN2-ADA uses 0.05); None: no ramp.
  """

  halflife: float
  ramp: float | None = None

  def __post_init__(self):
    if not 1 <= self.halflife < math.inf:
      raise ValueError(
        f"config.ema.halflife = {self.halflife}; legal: examples, finite, 1 or more; a decay of d per step of b "
        f"examples is b * ln 2 / -ln d"
      )
    config.check_ranges("config.ema", self, ramp="above 0, or None")

  def decay(self, step: Array, batch: int) -> Array:
    """The weight of the old average at this step, of `batch` examples."""
    halflife = jnp.asarray(self.halflife, jnp.float32)
    if self.ramp is not None:
      halflife = jnp.minimum(halflife, self.ramp * batch * (step + 1.0))
    return jnp.exp2(-batch / jnp.maximum(halflife, 1e-8))


def update(ema: Params, live: Params, decay: Array) -> Params:
  """decay * ema + (1 - decay) * live, in float32."""
  return jax.tree.map(lambda e, p: e + (1 - decay) * (p.astype(e.dtype) - e), ema, live)
