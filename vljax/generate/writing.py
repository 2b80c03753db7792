"""Text token by token: a loop that can stop, be looked at, and go on."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljax.generate.sampling import Sampling
from vljax.generate.speaker import Inputs, Speaker, last
from vljax.types import Params, Rng


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Writing:
  """n texts in the making.

  Attributes:
    tokens: what was written, without the token that stopped a text; the rest is 0.
    length: of each text.
    done: which texts were stopped.
    count: of the tokens drawn for each text so far.
    last: the tokens that no model has read yet.
    state: what the model remembers.
  """

  tokens: Int[Array, "n m"]
  length: Int[Array, "n"]
  done: Bool[Array, "n"]
  count: Int[Array, ""]
  last: Int[Array, "n"]
  rng: Rng
  state: Any


def start(
  speaker: Speaker, params: Params, inputs: Inputs, sampling: Sampling, stops: Int[Array, "s"], rng: Rng, most: int
) -> Writing:
  """Reads the prompts and draws the first token; there is room for `most`."""
  tokens, real = inputs["tokens"], inputs["real"]
  n, t = tokens.shape
  x, state = speaker.begin(params, inputs, t + most)
  blank = Writing(
    jnp.zeros((n, most), jnp.int32), jnp.zeros(n, jnp.int32), jnp.zeros(n, bool), jnp.zeros((), jnp.int32),
    jnp.zeros(n, jnp.int32), rng, state,
  )  # fmt: skip
  return _drawn(blank, speaker.head(params, last(x, real)), sampling, stops)


def advance(
  speaker: Speaker, params: Params, writing: Writing, sampling: Sampling, stops: Int[Array, "s"], limit: Int[Array, ""]
) -> Writing:
  """Goes on until `limit` tokens were drawn for each text, or all texts are done."""

  def going(writing: Writing) -> Bool[Array, ""]:
    return (writing.count < limit) & ~writing.done.all()

  def step(writing: Writing) -> Writing:
    tokens = writing.last[:, None]
    x, state = speaker.go_on(params, tokens, jnp.ones_like(tokens, bool), writing.state)
    return _drawn(dataclasses.replace(writing, state=state), speaker.head(params, x[:, -1]), sampling, stops)

  return jax.lax.while_loop(going, step, writing)


def _drawn(writing: Writing, logits: Float[Array, "n v"], sampling: Sampling, stops: Int[Array, "s"]) -> Writing:
  token = sampling.pick(jax.random.fold_in(writing.rng, writing.count), logits)
  done = writing.done | jnp.isin(token, stops)
  tokens = writing.tokens.at[:, writing.count].set(jnp.where(done, 0, token))
  return dataclasses.replace(
    writing, tokens=tokens, length=writing.length + ~done, done=done, count=writing.count + 1, last=token
  )
