"""Models that are asked in words: prompts in; text, likelihoods and logits out."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vljax.data import tokenizers
from vljax.generate import DecoderSpeaker, Inputs, Sampling, Speaker, Writer
from vljax.generate.writer import padded
from vljax.interop import language as published
from vljax.models import decoder
from vljax.types import Float, Params

Prompt = Any
"""A text; models of pictures also take lists of texts and pictures."""

WINDOW = 512
"""Tokens of a text of which each is foretold from those before it in the same window."""

BROKEN = "\ufffd"
"""What stands for bytes that are no letter yet."""

TAIL = 4
"""Tokens of a prompt that are decoded with what follows, since a word's first piece may hide its space."""


@dataclasses.dataclass(frozen=True)
class LanguageBundle:
  """A language model, its parameters and its tokenizer; a model of pictures overrides `speaker`, `read` and
  `inputs`.

  Attributes:
    config: keyword arguments of `models.decoder.build`, or the run's config.
    tokenizer: None if the checkpoint tells none.
    notes: what the checkpoint did not say and was taken as usual.
    ends: tokens that end a text beside the tokenizer's own, if the vocabulary has them.
  """

  ends: ClassVar[tuple[str, ...]] = ("<|endoftext|>",)

  model: Any
  params: Params
  config: dict[str, Any]
  tokenizer: tokenizers.Tokenizer | None
  notes: tuple[str, ...] = ()

  @property
  def speaker(self) -> Speaker:
    """The model's functions for writing."""
    return DecoderSpeaker(self.model)

  @property
  def weights(self) -> Params:
    """The parameters as the speaker takes them."""
    return self.params

  @property
  def stops(self) -> tuple[int, ...]:
    """The ids that end a text."""
    named = (self.token_id(name) for name in self.ends)
    return tuple(dict.fromkeys([self.words.eos_id, *(i for i in named if i is not None)]))

  def token_id(self, name: str) -> int | None:
    """The id of a token by its name, None if the vocabulary has no such token."""
    try:
      return self.words.token_id(name)
    except ValueError:
      return None

  @property
  def length(self) -> int:
    """The tokens of prompt and text together that the model was made for."""
    return self.model.length

  def read(self, prompts: Sequence[Prompt]) -> Inputs:
    """What the speaker begins with.

    Raises:
      ValueError: a prompt is none, or has no tokens.
    """
    for prompt in prompts:
      if not isinstance(prompt, str):
        raise ValueError(f"a prompt is {prompt!r:.80} of type {type(prompt).__name__}; legal: str")
    rows = [[*self._begin, *self.words.plain(prompt)] for prompt in prompts]
    if not all(rows):
      raise ValueError("a prompt without tokens; legal: a text of at least one")
    return self.inputs(rows)

  @property
  def words(self) -> tokenizers.Tokenizer:
    """The tokenizer.

    Raises:
      ValueError: the checkpoint brought none.
    """
    if self.tokenizer is None:
      raise ValueError(f"this checkpoint brings no tokenizer ({'; '.join(self.notes)}); use `writer` with ids")
    return self.tokenizer

  @functools.cached_property
  def writer(self) -> Writer:
    """The model on tokens instead of texts."""
    return Writer(self.speaker, self.weights, () if self.tokenizer is None else self.stops)

  def generate(self, prompt: Prompt, max_tokens: int = 64, *, stream: bool = False, **options: Any) -> Any:
    """What the model writes after a prompt; with `stream` an iterator over its pieces as they come.

    Args:
      options: of `generate_all`.

    Raises:
      ValueError: an option out of range, `stream` with beams, or more tokens than the model was made for.
    """
    if not stream:
      return self.generate_all([prompt], max_tokens, **options)[0]
    if options.pop("beams", 1) != 1:
      raise ValueError("stream = True with beams; legal: beams = 1, since a search knows its text at the end only")
    options.pop("length_penalty", None)
    return self._pieces(self._stream([prompt], max_tokens, every=1, **options), options.get("stop", ()))

  def generate_all(
    self,
    prompts: Sequence[Prompt],
    max_tokens: int = 64,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    beams: int = 1,
    length_penalty: float = 1.0,
    stop: str | Sequence[str] = (),
    seed: int = 0,
  ) -> list[str]:
    """What the model writes after each of several prompts, read side by side.

    Args:
      temperature: None takes the likeliest token always; else tokens are drawn, see `generate.Sampling`.
      beams: above 1, the best text by beam search, the sum of log-probabilities divided by length^length_penalty.
      stop: texts that end it, and are not part of it, beside the tokens that do. Those of one token end a beam; others
        are cut off after the search, which ranks texts with what follows the stop.

    Raises:
      ValueError: as `generate`.
    """
    if beams == 1:
      every = 16 if stop else max_tokens
      *_, texts = self._stream(prompts, max_tokens, every, temperature, top_k, top_p, stop, seed)
      return texts
    if (temperature, top_k, top_p) != (None, None, None):
      raise ValueError("beams with temperature, top_k or top_p; legal: beams = 1, or none of these")
    inputs = self._checked(prompts, max_tokens, f"max_tokens = {max_tokens}")
    rows = self.writer.search(inputs, max_tokens, beams, length_penalty, self._lone(stop))
    return [_cut(text, stop)[0] for text in self._texts(inputs, rows)]

  def score(self, prompt: Prompt, options: Sequence[str]) -> Float[np.ndarray, " n"]:
    """The log-likelihood of each option as what follows the prompt, such as " yes" with its space.

    Raises:
      ValueError: an option without tokens, or more tokens than the model was made for.
    """
    rows = [self.words.plain(option) for option in options]
    longest = max(map(len, rows), default=0)
    return self.writer.score(self._checked([prompt], longest, f"an option of {longest}"), rows)

  def logits(self, prompt: Prompt) -> Float[np.ndarray, "t v"]:
    """The logits of what follows each token of a prompt.

    Raises:
      ValueError: more tokens than the model was made for.
    """
    inputs = self._checked([prompt])
    return self.writer.logits(inputs)[0][np.asarray(inputs["real"])[0]]

  def perplexity(self, text: str, window: int | None = None, batch: int = 4) -> float:
    """exp of the mean -log p of a text's tokens, in windows that do not see each other; their first is not foretold.

    Args:
      window: tokens, None for 512 or, if that is less, what the model was made for; what is left behind the last
        whole one does not count, in a text of one or more.

    Raises:
      ValueError: a window of one token or of more than the model was made for, or a text of less than two tokens.
    """
    window = min(WINDOW, self.length) if window is None else window
    if not 2 <= window <= self.length:
      raise ValueError(f"window = {window}; legal: 2 to {self.length}, the tokens that the model was made for")
    ids = self.words.plain(text)
    if len(ids) < 2:
      raise ValueError(f"a text of {len(ids)} tokens has no perplexity; legal: 2 or more")
    size = min(window, len(ids))
    windows = [ids[i : i + size] for i in range(0, len(ids) - size + 1, size)]
    parts = [self.inputs(windows[i : i + batch]) for i in range(0, len(windows), batch)]
    nats = sum(float(self.writer.losses(part).sum()) for part in parts)
    return math.exp(nats / (len(windows) * (size - 1)))

  def inputs(self, rows: Sequence[Sequence[int]]) -> Inputs:
    """What the speaker begins with, of texts' tokens."""
    tokens, real = padded(rows)
    return {"tokens": tokens, "real": real}

  @functools.cached_property
  def _begin(self) -> list[int]:
    """What stands before every text, as the tokenizer has it."""
    whole, text = self.words.encode("a")[:-1], self.words.plain("a")
    return whole[: len(whole) - len(text)]

  def _checked(self, prompts: Sequence[Prompt], more: int = 0, name: str = "") -> Inputs:
    """What the speaker begins with, of prompts that leave room for `more` tokens, by `name`."""
    inputs = self.read(prompts)
    longest = int(np.asarray(inputs["real"]).sum(1).max())
    if longest + more > self.length:
      also, together = (f" and {name}", " together") if name else ("", "")
      raise ValueError(f"a prompt of {longest} tokens{also}; the model was made for {self.length}{together}")
    return inputs

  def _stream(
    self,
    prompts: Sequence[Prompt],
    max_tokens: int,
    every: int,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: str | Sequence[str] = (),
    seed: int = 0,
  ) -> Iterator[list[str]]:
    """The texts so far, whenever `every` more tokens are written."""
    inputs = self._checked(prompts, max_tokens, f"max_tokens = {max_tokens}")
    for rows in self.writer.stream(inputs, max_tokens, Sampling(temperature, top_k, top_p), seed, every):
      cut = [_cut(text, stop) for text in self._texts(inputs, rows)]
      yield [text for text, _ in cut]
      if all(ended for _, ended in cut):
        return

  def _pieces(self, texts: Iterator[list[str]], stop: str | Sequence[str] = ()) -> Iterator[str]:
    """What is new in each text, without what may become a letter or one of `stop`."""
    sent, whole = 0, ""
    for (whole,) in texts:
      sure = len(whole) - _held(whole, stop)
      if sure > sent and not whole.endswith(BROKEN):
        yield whole[sent:sure]
        sent = sure
    if len(whole) > sent:
      yield whole[sent:]

  def _texts(self, inputs: Inputs, rows: Sequence[Sequence[int]]) -> list[str]:
    texts = []
    for tokens, real, row in zip(np.asarray(inputs["tokens"]), np.asarray(inputs["real"]), rows, strict=True):
      before = [int(i) for i in tokens[real][-TAIL:]]
      while self.words.eos_id in before:
        before.remove(before[0])
      row = [i for i in row if i < self.words.vocab_size]  # a table may have more rows than there are tokens
      known, both = self._decoded(before), self._decoded([*before, *row])
      texts.append(both[len(known) :] if both.startswith(known) else self._decoded(row))
    return texts

  def _lone(self, stop: str | Sequence[str]) -> tuple[int, ...]:
    """The tokens that spell one of `stop` behind a text; some tokenizers put a space before the first piece."""
    before = self.words.plain("a")
    last = {(i, s) for s in _stops(stop) for text in (s, f"a{s}") for i in self.words.plain(text)[-1:]}
    return tuple(sorted({i for i, s in last if self._decoded([*before, i]) == f"a{s}"}))

  def _decoded(self, ids: list[int]) -> str:
    return str(self.words.decode(ids))


def load(source: Any, dtype: str | None = None) -> LanguageBundle:
  """A published language model: a GGUF file, a Hugging Face folder, `package:NAME` or `hf:ORG/NAME`.

  Args:
    dtype: of weights and computation; None means float32 on CPUs and bfloat16 on accelerators.

  Raises:
    FileNotFoundError, ValueError: as `interop.language.load`.
  """
  tower = published.load(source)
  dtype = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
  tokenizer = tokenizers.build(**tower.tokenizer) if tower.tokenizer else None
  params = jax.tree.map(lambda x: jnp.asarray(x, dtype), tower.weights[tower.which])
  model = decoder.build(**tower.config, dtype=dtype)
  return LanguageBundle(model, params, tower.config, tokenizer, tuple(tower.notes))


def _cut(text: str, stop: str | Sequence[str]) -> tuple[str, bool]:
  """The text before the first of `stop` in it, and whether there is one."""
  found = [at for s in _stops(stop) if (at := text.find(s)) >= 0]
  return (text[: min(found)], True) if found else (text, False)


def _held(text: str, stop: str | Sequence[str]) -> int:
  """The length of the longest end of the text with which one of `stop` begins."""
  return max((n for s in _stops(stop) for n in range(1, len(s)) if text.endswith(s[:n])), default=0)


def _stops(stop: str | Sequence[str]) -> list[str]:
  return [s for s in ([stop] if isinstance(stop, str) else stop) if s]
