"""What a model must do to be asked for text: read prompts, go on, and score the next tokens."""

import dataclasses
from typing import Any, Protocol, Self

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljax.models.decoder import Decoder
from vljax.ops.attention import Cache
from vljax.types import Params

Inputs = Any
"""What `begin` reads: a dict with `tokens` [n t] and `real` [n t], the tokens of each prompt in a row, and more."""


class State(Protocol):
  """What a model remembers of n texts: a pytree."""

  def take(self, rows: Int[Array, "m"]) -> Self:
    """The memory of these texts, each as often as it is named."""
    ...

  def reorder(self, rows: Int[Array, "n"]) -> Self:
    """The memory of n texts again, each of which goes on from text `rows` of the same prompt."""
    ...


class Speaker(Protocol):
  """The functions of a model that writes; an instance is hashable, and equal to those that do the same."""

  @property
  def length(self) -> int | None:
    """The most tokens of a text; None where the model's positions have no end."""
    ...

  def begin(self, params: Params, inputs: Inputs, room: int) -> tuple[Float[Array, "n t d"], State]:
    """Reads prompts: what `head` takes at each of their tokens, and a memory with room for so many tokens."""
    ...

  def go_on(
    self, params: Params, tokens: Int[Array, "n t"], real: Bool[Array, "n t"], state: Any
  ) -> tuple[Float[Array, "n t d"], Any]:
    """Reads more tokens of each text."""
    ...

  def head(self, params: Params, x: Float[Array, "*n d"]) -> Float[Array, "*n v"]:
    """The logits of the token that follows."""
    ...


@dataclasses.dataclass(frozen=True)
class DecoderSpeaker:
  """A language model alone; its memory is the cache."""

  model: Decoder

  @property
  def length(self) -> int | None:
    return self.model.positions_end

  def begin(self, params: Params, inputs: Inputs, room: int) -> tuple[Float[Array, "n t d"], Cache]:
    return self.go_on(params, inputs["tokens"], inputs["real"], self.model.cache(len(inputs["tokens"]), room))

  def go_on(
    self, params: Params, tokens: Int[Array, "n t"], real: Bool[Array, "n t"], state: Cache
  ) -> tuple[Float[Array, "n t d"], Cache]:
    variables = {"params": params}
    x = self.model.apply(variables, tokens, method="embed")
    return self.model.apply(variables, x, key_padding=real, cache=state, method="run")

  def head(self, params: Params, x: Float[Array, "*n d"]) -> Float[Array, "*n v"]:
    return self.model.apply({"params": params}, x, method="logits")


def last(x: Float[Array, "n t d"], real: Bool[Array, "n t"]) -> Float[Array, "n d"]:
  """x at the last real token of each text."""
  at = real.shape[1] - 1 - jnp.argmax(real[:, ::-1], axis=1)
  return jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0]
