"""The feed-forward half of a block."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax import config, parallel
from vljax.layers.linear import Linear
from vljax.parallel import Axis


def quick_gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """x * sigmoid(1.702 x): what OpenAI's CLIP weights were trained with, up to 0.02 away from the exact GELU."""
  return x * jax.nn.sigmoid(1.702 * x)


def gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """x * Phi(x) with the error function (arXiv 1606.08415)."""
  return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


def gelu_tanh(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """The tanh approximation of GELU (GPT-2, big_vision)."""
  return jax.nn.gelu(x, approximate=True)


def squared_relu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """max(x, 0)^2 (Primer, arXiv 2109.08668; Flamingo)."""
  return jnp.square(jax.nn.relu(x))


ACTIVATIONS = {
  "gelu": gelu,
  "gelu_tanh": gelu_tanh,
  "quick_gelu": quick_gelu,
  "relu": jax.nn.relu,
  "silu": jax.nn.silu,
  "squared_relu": squared_relu,
}


class Mlp(nn.Module):
  """down(activation(up(x))), or, gated, down(activation(gate(x)) * up(x)) (SwiGLU with silu, arXiv 2002.05202).

  Attributes:
    hidden: width between the two.
    residual_scale: what the initial standard deviation of `down` is multiplied by.
  """

  hidden: int
  activation: str = "gelu"
  residual_scale: float = 1.0
  dtype: Any = "float32"
  gated: bool = False
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    width = x.shape[-1]
    activation = config.choose("activation", self.activation, ACTIVATIONS)
    init = nn.initializers.normal((2 * width) ** -0.5)

    def into(name: str) -> Float[Array, "*b m"]:
      y = Linear((self.hidden,), (Axis.EMBED, Axis.MLP), init, self.use_bias, self.dtype, name=name)(x)
      return parallel.constrain(y, Axis.BATCH, *[None] * (y.ndim - 2), Axis.MLP)

    y = activation(into("gate")) * into("up") if self.gated else activation(into("up"))
    out = nn.initializers.normal(width**-0.5 * self.residual_scale)
    return Linear((width,), (Axis.MLP, Axis.EMBED), out, self.use_bias, self.dtype, name="down")(y)
