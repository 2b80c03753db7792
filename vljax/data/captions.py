"""Which of an image's captions a training example shows."""

from collections.abc import Sequence

import numpy as np

from vljax import config

RULES = {
  "first": lambda texts, rng: texts[0],
  "last": lambda texts, rng: texts[-1],
  "random": lambda texts, rng: texts[int(rng.integers(len(texts)))],
  "longest": lambda texts, rng: max(texts, key=len),
  "shortest": lambda texts, rng: min(texts, key=len),
  "join": lambda texts, rng: " ".join(texts),
}


def choose(captions: str | Sequence[str], rule: str, rng: np.random.Generator | None = None) -> str:
  """One caption by rule; blank ones do not count, a tie goes to the first.

  Raises:
    ValueError: an unknown rule, or no caption that is not blank.
  """
  pick = config.choose("caption rule", rule, RULES)
  texts = [captions] if isinstance(captions, str) else list(captions)
  texts = [text for text in texts if isinstance(text, str) and text.strip()]
  if not texts:
    raise ValueError(f"captions = {captions!r} holds no text")
  return pick(texts, rng)
