"""Captions against human ones: CIDEr-D and BLEU."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from vljax.types import Float

Ngram = tuple[str, ...]

LONGEST = 4
SIGMA = 6.0
"""The width, in words, of CIDEr-D's penalty on another length."""


def evaluate(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
  """`cider` (CIDEr-D; papers print a hundred times it) and `bleu4`, over the pictures.

  Raises:
    ValueError: not one caption for each picture, or a picture without a reference.
  """
  return {"cider": float(cider(captions, references).mean()), "bleu4": bleu(captions, references)}


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Float[np.ndarray, " n"]:
  """CIDEr-D of each caption (Vedantam et al. 2015, arXiv 1411.5726, section 5).

    10 / 4 * sum_n mean_j exp(-(|c| - |r_j|)^2 / (2 * 6^2)) * <min(g_n(c), g_n(r_j)), g_n(r_j)> / (|g_n(c)| |g_n(r_j)|)

  where g_n holds, for each n-gram of n = 1 to 4 words, its count times log(N / number of the N pictures one of whose
  references has it). Words are those of `words`; the usual program uses a Java tokenizer, so that scores may differ in
  the third decimal from its own, and are equal on texts that are words with spaces between.

  Raises:
    ValueError: as `evaluate`.
  """
  counted, expected = _counted(captions, references)
  seen = Counter(ngram for group in expected for ngram in set(itertools.chain.from_iterable(group)))
  weigh = lambda counts: {g: k * math.log(len(expected) / max(1, seen[g])) for g, k in counts.items()}
  scores = []
  for counts, group in zip(counted, expected, strict=True):
    own, length = weigh(counts), _length(counts)
    found = [_similarity(own, weigh(other)) * _closeness(length - _length(other)) for other in group]
    scores.append(10.0 * float(np.mean(found)))
  return np.array(scores)


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]], longest: int = LONGEST) -> float:
  """BLEU of all captions together (Papineni et al. 2002): the geometric mean of the shares of n-grams that a reference
  has, n = 1 to `longest`, times exp(1 - r / c) if they have fewer words, c, than the nearest references, r.

  Raises:
    ValueError: as `evaluate`.
  """
  counted, expected = _counted(captions, references)
  right, total = np.zeros(longest), np.zeros(longest)
  words_found = words_wanted = 0
  for counts, group in zip(counted, expected, strict=True):
    most = Counter()
    for other in group:
      most |= other
    for ngram, count in counts.items():
      if len(ngram) <= longest:
        right[len(ngram) - 1] += min(count, most[ngram])
        total[len(ngram) - 1] += count
    length = _length(counts)
    words_found += length
    words_wanted += min(map(_length, group), key=lambda r: (abs(r - length), r))
  if not right.all():
    return 0.0
  penalty = min(1.0, math.exp(1.0 - words_wanted / words_found))
  return penalty * math.exp(float(np.mean(np.log(right / total))))


def words(text: str) -> list[str]:
  """Lower-cased words without punctuation; `don't` is `do n't`, `man's` is `man 's`, as in the Penn Treebank."""
  parted = re.sub(r"(n't|'(?:s|re|ve|d|ll|m))\b", r" \1", text.lower().replace("’", "'"))
  return re.findall(r"n't\b|'(?:s|re|ve|d|ll|m)\b|\w+(?:[-.]\w+)*", parted)


def _counted(captions, references) -> tuple[list[Counter[Ngram]], list[list[Counter[Ngram]]]]:
  if len(captions) != len(references) or not len(captions):
    raise ValueError(f"{len(captions)} captions for the references of {len(references)} pictures")
  empty = next((i for i, group in enumerate(references) if isinstance(group, str) or not len(group)), None)
  if empty is not None:
    raise ValueError(f"picture {empty} has the references {references[empty]!r}; legal: a list of one text or more")
  return [*map(_ngrams, captions)], [[*map(_ngrams, group)] for group in references]


def _ngrams(text: str) -> Counter[Ngram]:
  found = words(text)
  return Counter(tuple(found[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(found) - n + 1))


def _length(counts: Counter[Ngram]) -> int:
  return sum(count for ngram, count in counts.items() if len(ngram) == 1)


def _similarity(own: dict[Ngram, float], other: dict[Ngram, float]) -> float:
  """The mean over n of the clipped cosine of two vectors of n-grams."""
  parts = np.zeros((3, LONGEST))
  for ngram, value in own.items():
    parts[:2, len(ngram) - 1] += min(value, other.get(ngram, 0.0)) * other.get(ngram, 0.0), value**2
  for ngram, value in other.items():
    parts[2, len(ngram) - 1] += value**2
  norms = np.sqrt(parts[1] * parts[2])
  return float(np.mean(np.divide(parts[0], norms, out=np.zeros(LONGEST), where=norms > 0)))


def _closeness(difference: int) -> float:
  return math.exp(-(difference**2) / (2 * SIGMA**2))
