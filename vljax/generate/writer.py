"""A model and its parameters, ready to write: compiled once for each shape, whatever is asked."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vljax.generate import beam, writing
from vljax.generate.sampling import Sampling
from vljax.generate.speaker import Inputs, Speaker, last
from vljax.objectives.lm import log_likelihood, rows
from vljax.types import Array, Bool, Float, Int, Params

_start = jax.jit(writing.start, static_argnames=("speaker", "most"))
_advance = jax.jit(writing.advance, static_argnames=("speaker",), donate_argnames=("writing",))
_search = jax.jit(beam.search, static_argnames=("speaker", "beams", "most"))

SMALLEST = 16
"""The least that lengths are rounded up to, so that few programs are compiled."""


@dataclasses.dataclass(frozen=True)
class Writer:
  """Tokens in, tokens out.

  Attributes:
    stops: ids that end a text.
  """

  speaker: Speaker
  params: Params
  stops: tuple[int, ...] = ()

  def write(self, inputs: Inputs, limit: int, sampling: Sampling = Sampling(), seed: int = 0) -> list[list[int]]:
    """The continuation of each prompt, of `limit` tokens at most, without the stop.

    Raises:
      ValueError: limit below 1, a wrong sampling, or a prompt and limit beyond the model's positions.
    """
    *_, final = self.stream(inputs, limit, sampling, seed, every=limit)
    return final

  def stream(
    self, inputs: Inputs, limit: int, sampling: Sampling = Sampling(), seed: int = 0, every: int = 1
  ) -> Iterator[list[list[int]]]:
    """All that is written so far, each time `every` further tokens are."""
    _at_least_one("limit", limit)
    self._fits(inputs, limit)
    fixed: dict[str, Any] = dict(sampling=sampling.check(), stops=self._stops)
    state = _start(self.speaker, self.params, inputs, rng=jax.random.key(seed), most=rounded(limit), **fixed)
    for target in (*range(every, limit, every), limit):
      state = _advance(self.speaker, self.params, state, limit=target, **fixed)
      tokens, lengths = np.asarray(state.tokens), np.asarray(state.length)
      yield [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
      if bool(state.done.all()):
        return

  def search(
    self, inputs: Inputs, limit: int, beams: int, penalty: float = 1.0, stops: Sequence[int] = ()
  ) -> list[list[int]]:
    """The best continuation of each prompt by `beam.search`.

    Args:
      stops: further ids that end a text.

    Raises:
      ValueError: limit or beams below 1, or a prompt and limit beyond the model's positions.
    """
    _at_least_one("limit", limit)
    _at_least_one("beams", beams)
    self._fits(inputs, limit)
    ends = np.asarray([*self.stops, *stops], np.int32)
    found = _search(self.speaker, self.params, inputs, ends, limit, float(penalty), beams=beams, most=rounded(limit))
    return [row[:n].tolist() for row, n in zip(np.asarray(found[0]), np.asarray(found[1]), strict=True)]

  def score(self, inputs: Inputs, options: Sequence[Sequence[int]], at_once: int = 32) -> Float[np.ndarray, " n"]:
    """The log-likelihood of each option as what follows the one prompt, which is read once.

    Args:
      at_once: options that are read side by side, each with its copy of what the model remembers of the prompt.

    Raises:
      ValueError: not one prompt, no options, one without tokens or beyond the model's positions, or at_once below 1.
    """
    _at_least_one("at_once", at_once)
    if len(inputs["tokens"]) != 1:
      raise ValueError(f"options of {len(inputs['tokens'])} prompts; legal: of one")
    if not options or not all(len(option) for option in options):
      raise ValueError("no options, or an option without tokens, which has no likelihood")
    self._fits(inputs, max(map(len, options)))
    tokens, real = padded(options)
    state, first = _read(self.speaker, self.params, inputs, room=tokens.shape[1])
    size, found = min(at_once, len(options)), []
    for start in range(0, len(options), size):
      rows = np.arange(start, start + size) % len(options)  # the last chunk begins again: one shape, one program
      found.append(_follow(self.speaker, self.params, state, first, tokens[rows], real[rows]))
    return np.concatenate(found)[: len(options)]

  def logits(self, inputs: Inputs) -> Float[np.ndarray, "n t v"]:
    """The logits of what follows each token of the prompts.

    Raises:
      ValueError: a prompt beyond the model's positions.
    """
    self._fits(inputs)
    return np.asarray(_logits(self.speaker, self.params, inputs))

  def losses(self, inputs: Inputs) -> Float[np.ndarray, " n"]:
    """For each prompt the sum of -log p of its tokens, each after those before it; the first is not foretold.

    Raises:
      ValueError: a prompt beyond the model's positions.
    """
    self._fits(inputs)
    return np.asarray(_losses(self.speaker, self.params, inputs))

  def _fits(self, inputs: Inputs, more: int = 0) -> None:
    longest, most = int(np.asarray(inputs["real"]).sum(1).max(initial=0)), self.speaker.length
    if most is not None and longest + more > most:
      also = f" and {more} to follow" if more else ""
      raise ValueError(f"a prompt of {longest} tokens{also}; the model has positions for {most}")

  @property
  def _stops(self) -> Int[np.ndarray, " s"]:
    return np.asarray(self.stops, np.int32)


def padded(rows: Sequence[Sequence[int]], fill: int = 0) -> tuple[Int[np.ndarray, "n t"], Bool[np.ndarray, "n t"]]:
  """Rows of tokens as one array with padding behind them, its length rounded up, and which of it is real."""
  length = rounded(max((len(row) for row in rows), default=1))
  tokens, real = np.full((len(rows), length), fill, np.int32), np.zeros((len(rows), length), bool)
  for i, row in enumerate(rows):
    tokens[i, : len(row)], real[i, : len(row)] = row, True
  return tokens, real


def rounded(length: int) -> int:
  """The next number of the form 2^i or 3 * 2^i, from SMALLEST on."""
  size = SMALLEST
  while size < length:
    size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
  return size


@functools.partial(jax.jit, static_argnames=("speaker", "room"))
def _read(speaker: Speaker, params: Params, inputs: Inputs, room: int) -> tuple[Any, Float[Array, "1 d"]]:
  x, state = speaker.begin(params, inputs, inputs["tokens"].shape[1] + room)
  return state, last(x, inputs["real"])


@functools.partial(jax.jit, static_argnames=("speaker",))
def _follow(
  speaker: Speaker,
  params: Params,
  state: Any,
  first: Float[Array, "1 d"],
  tokens: Int[Array, "n t"],
  real: Bool[Array, "n t"],
) -> Float[Array, "n"]:
  n = len(tokens)
  x, _ = speaker.go_on(params, tokens, real, state.take(jnp.zeros(n, jnp.int32)))
  before = jnp.concatenate([jnp.broadcast_to(first[:, None], (n, 1, x.shape[-1])), x[:, :-1]], axis=1)
  return jnp.where(real, log_likelihood(speaker.head(params, before), tokens), 0.0).sum(1)


@functools.partial(jax.jit, static_argnames=("speaker",))
def _logits(speaker: Speaker, params: Params, inputs: Inputs) -> Float[Array, "n t v"]:
  x, _ = speaker.begin(params, inputs, inputs["tokens"].shape[1])
  return speaker.head(params, x)


@functools.partial(jax.jit, static_argnames=("speaker",))
def _losses(speaker: Speaker, params: Params, inputs: Inputs) -> Float[Array, "n"]:
  x, _ = speaker.begin(params, inputs, inputs["tokens"].shape[1])
  return rows(functools.partial(speaker.head, params), x, inputs["tokens"], inputs["real"])[0]


def _at_least_one(name: str, value: int) -> None:
  if value < 1:
    raise ValueError(f"{name} = {value}; legal: 1 or more")
