"""Beam search: the likeliest text among those that a fixed number of beginnings at a time lead to."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljax.generate.speaker import Inputs, Speaker, last
from vljax.types import Params

NEVER = -1e9
"""The score of what is not there; finite, so that sums with it are ordered."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Beams:
  """The search over n prompts with w beams, by the rules of transformers 5.

  Attributes:
    tokens, score: of the beams that go on, and the sums of their log-probabilities, best first.
    ended, ended_score, ended_length: the best texts that ended, sum / length^penalty, and their tokens without a stop.
    open: whether a prompt's ended texts can still be bettered.
    count: of the tokens so far.
    state: what the model remembers of each beam [n * w].
  """

  tokens: Int[Array, "n w m"]
  score: Float[Array, "n w"]
  ended: Int[Array, "n w m"]
  ended_score: Float[Array, "n w"]
  ended_length: Int[Array, "n w"]
  open: Bool[Array, "n"]
  count: Int[Array, ""]
  state: Any


def search(
  speaker: Speaker,
  params: Params,
  inputs: Inputs,
  stops: Int[Array, "s"],
  limit: Int[Array, ""],
  penalty: Float[Array, ""],
  *,
  beams: int,
  most: int,
) -> tuple[Int[Array, "n m"], Int[Array, "n"], Float[Array, "n"]]:
  """The best text for each prompt, its length without the stop, and its score.

  A text that ends, by a stop or at `limit` tokens, is worth sum(log p) / length^penalty, the stop included. It counts
  only among the best `beams` continuations of its step. The search of a prompt ends when as many texts have ended and
  the best beam, at its length, is worth no more than the worst of them.

  Args:
    limit: tokens of the longest text; `most` is the room for them.
  """
  tokens, real = inputs["tokens"], inputs["real"]
  n, w = len(tokens), beams
  x, state = speaker.begin(params, inputs, tokens.shape[1] + most)
  each = jnp.repeat(jnp.arange(n), w)
  logits = speaker.head(params, last(x, real))[each].reshape(n, w, -1)
  blank = jnp.zeros((n, w, most), jnp.int32)
  first = Beams(
    blank, jnp.full((n, w), NEVER).at[:, 0].set(0.0), blank, jnp.full((n, w), NEVER), jnp.zeros((n, w), jnp.int32),
    jnp.ones(n, bool), jnp.zeros((), jnp.int32), state.take(each),
  )  # fmt: skip
  grow = lambda found, logits: _grown(found, logits, stops, limit, penalty)

  def step(found: Beams) -> Beams:
    token = jax.lax.dynamic_index_in_dim(found.tokens, found.count - 1, 2, keepdims=False).reshape(n * w, 1)
    x, state = speaker.go_on(params, token, jnp.ones_like(token, bool), found.state)
    logits = speaker.head(params, x[:, -1]).reshape(n, w, -1)
    return grow(dataclasses.replace(found, state=state), logits)

  found = jax.lax.while_loop(lambda f: (f.count < limit) & f.open.any(), step, grow(first, logits))
  best = found.ended_score.argmax(1)[:, None]
  pick = lambda x: jnp.take_along_axis(x, best, axis=1)[:, 0]
  length = pick(found.ended_length)
  text = jnp.take_along_axis(found.ended, best[..., None], axis=1)[:, 0]
  return jnp.where(jnp.arange(most) < length[:, None], text, 0), length, pick(found.ended_score)


def _grown(
  found: Beams, logits: Float[Array, "n w v"], stops: Int[Array, "s"], limit: Int[Array, ""], penalty: Float[Array, ""]
) -> Beams:
  """All beams longer by one token: of all continuations the best, those that ended kept apart."""
  n, w, v = logits.shape
  total = (jax.nn.log_softmax(logits.astype(jnp.float32)) + found.score[..., None]).reshape(n, w * v)
  score, index = jax.lax.top_k(total, min(max(2, 1 + len(stops)) * w, w * v))
  beam, token = index // v, (index % v).astype(jnp.int32)
  tokens = jnp.take_along_axis(found.tokens, beam[..., None], axis=1).at[:, :, found.count].set(token)
  count = found.count + 1
  stopped = jnp.isin(token, stops)
  ends = stopped | (count == limit)

  among_best = jnp.arange(score.shape[1]) < w
  worth = jnp.where(ends & among_best & found.open[:, None], score / count**penalty, NEVER)
  merged = jnp.concatenate([found.ended_score, worth], axis=1)
  ended_score, kept = jax.lax.top_k(merged, w)
  choose = lambda old, new: _along(jnp.concatenate([old, new], axis=1), kept)
  going, best = jax.lax.top_k(jnp.where(ends, score + NEVER, score), w)
  worst = ended_score.min(1)
  rows = (jnp.arange(n)[:, None] * w + jnp.take_along_axis(beam, best, axis=1)).reshape(-1)
  return Beams(
    tokens=_along(tokens, best),
    score=going,
    ended=choose(found.ended, tokens),
    ended_score=ended_score,
    ended_length=choose(found.ended_length, count - stopped),
    open=found.open & (going[:, 0] / count**penalty > worst),
    count=count,
    state=found.state.reorder(rows),
  )


def _along(x: Array, index: Int[Array, "n w"]) -> Array:
  return jnp.take_along_axis(x, index.reshape(*index.shape, *(1,) * (x.ndim - 2)), axis=1)
