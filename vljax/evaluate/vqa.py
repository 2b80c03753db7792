"""Answers to questions about pictures against those of ten people, as the VQA challenge counts (arXiv 1505.00468)."""

import functools
import re
from collections.abc import Sequence

import numpy as np

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
ARTICLES = ("a", "an", "the")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

ENDINGS = {
  "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
  "'ve": "could might must not should they we what where who would you",
  "'d": "he how it someone something there they where who you",
  "'ll": "how it somebody someone something they what who why you y'all",
  "'s": "he how somebody someone that there what when where who why",
  "'re": "there they what why you",
  "n't've": "could had might should would",
  "'d've": "he it she somebody someone something there they we who you y'all",
}
"""Ending to the words that are written with it; those that would be other words without apostrophe are not here."""

WHOLE = ("ma'am", "o'clock", "somebody'd", "'twas", "y'all", "'ow's'at")


def evaluate(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
  """`accuracy`, the mean of `accuracy` over the questions.

  Raises:
    ValueError: not one prediction for each question, or a question without answers.
  """
  if len(predictions) != len(answers) or not len(predictions):
    raise ValueError(f"{len(predictions)} predictions for the answers to {len(answers)} questions")
  return {"accuracy": float(np.mean([accuracy(p, a) for p, a in zip(predictions, answers, strict=True)]))}


def accuracy(prediction: str, answers: Sequence[str]) -> float:
  """How many people gave the same answer, three being enough.

    mean over the people i of min(1, (number of others than i who answered so) / 3)

  As the challenge's own program does, texts are normalized only where people disagree.

  Raises:
    ValueError: fewer than two answers: their others can not be counted; see `exact`.
  """
  if isinstance(answers, str) or len(answers) < 2:
    raise ValueError(f"VQA accuracy needs the answers of two people or more; found {answers!r}")
  prediction, *given = (re.sub(r"[\n\t]", " ", text).strip() for text in (prediction, *answers))
  if len(set(given)) > 1:
    prediction, *given = map(normalize, (prediction, *given))
  same = np.array([answer == prediction for answer in given])
  return float(np.mean(np.minimum(1.0, (same.sum() - same) / 3)))


def exact(prediction: str, answers: Sequence[str]) -> bool:
  """Whether a normalized prediction is one of the normalized answers; for sets with one answer each."""
  return normalize(prediction) in map(normalize, answers)


def normalize(text: str) -> str:
  """Lower case, digits for words to ten, apostrophes put back, without articles and punctuation.

  A mark of PUNCTUATION becomes a space if it stands between two characters wherever it does, else nothing; a comma
  between digits takes all marks away. Periods stay before digits.
  """
  thousands = re.search(r"\d,\d", text) is not None
  gone = {mark: thousands or f"{mark} " in text or f" {mark}" in text for mark in PUNCTUATION}
  text = text.translate(str.maketrans({mark: "" if away else " " for mark, away in gone.items()}))
  found = re.sub(r"\.(?!\d)", "", text).lower().split()
  digits = {name: str(i) for i, name in enumerate(NUMBERS)} | {"none": "0"}
  kept = [digits.get(word, word) for word in found if word not in ARTICLES]
  return " ".join(contractions().get(word, word) for word in kept)


@functools.cache
def contractions() -> dict[str, str]:
  """Each contraction with one of its apostrophes forgotten, to the right spelling."""
  full = [word + ending for ending, found in ENDINGS.items() for word in found.split()] + list(WHOLE)
  marks = [(word, i) for word in full for i, character in enumerate(word) if character == "'"]
  return {word[:i] + word[i + 1 :]: word for word, i in marks}
