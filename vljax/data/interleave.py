"""Documents in which texts and media alternate, as tokens that know which medium they look at.

A document is an example with `items`, its texts and the numbers of its media in order, and `media`, that which these
number: each a picture, or the list of a clip's frames. A captioned picture is a document of two items.

  <BOS> text <EOC> <image> text <EOC> <image> text <EOC> <EOS>

`<EOC>` ends the text before a medium, if there is any, and the document (Flamingo, arXiv 2204.14198, appendix A.3).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int

from vljax.data.tokenizers import Tokenizer
from vljax.data.transform import Transform, check_share, value_of

IMAGE, CHUNK = "<image>", "<EOC>"
"""The tokens that stand for a medium and that end a text; a tokenizer without them gets them by `added`."""

Items = Sequence[str | int | None]


@dataclasses.dataclass(frozen=True)
class Pair(Transform):
  """A picture, or a clip, and its caption as a document; one space before the caption with probability `p_space`.

  The paper's 0.5 (appendix A.3) lets a model see the first word of a caption spelled both ways. Vocabularies that
  ignore leading spaces, as CLIP's and most of SentencePiece, are not changed by it.
  """

  p_space: float = 0.5
  field: str = "caption"
  medium: str = "image"

  @property
  def random(self) -> bool:
    return self.p_space > 0

  def __post_init__(self):
    check_share("p_space", self.p_space)

  def __call__(self, example, rng):
    text = value_of(example, self.field).strip()
    space = " " if self.p_space and rng.random() < self.p_space else ""
    return example | {"items": [0, space + text], "media": [value_of(example, self.medium)]}


@dataclasses.dataclass(frozen=True)
class Interleave(Transform):
  """A stretch of at most `length` tokens of a document, with the first `media` media in it.

  Gives `tokens`, `phi` and `loss_mask`, all [t], and in `media` only those that are left. `phi` is the number,
  from 1, of the medium that a token looks at, 0 if none; `loss_mask` tells which tokens count when they are predicted:
  all but `<image>` and the first one.

  Attributes:
    length, media: the paper trains with 256 and 5. The tokens of media beyond these are left out.
    p_next: the probability that the tokens of this document look at the medium after them, not before (paper: 0.5 for
      pages).
    rule: a stretch at `random` among those with a medium, or the `first` one. The paper does not say what it does
      with a stretch without media, which teaches nothing about them.
  """

  length: int = 256
  media: int = 5
  p_next: float = 0.0
  rule: Literal["random", "first"] = "random"
  tokenizer: Tokenizer | None = None

  @property
  def random(self) -> bool:
    return self.rule == "random" or self.p_next > 0

  def __post_init__(self):
    check_share("p_next", self.p_next)
    if self.length < 2 or self.media < 0:
      raise ValueError(f"length = {self.length}, media = {self.media}; legal: 2 or more tokens, 0 or more media")
    if self.tokenizer is not None:
      marks(self.tokenizer)

  def __call__(self, example, rng):
    tokens, medium = spell(value_of(example, "items"), self.tokenizer)
    kept = stretch(medium >= 0, self.length, self.media, rng if self.rule == "random" else None)
    tokens, medium = tokens[kept], medium[kept]
    stands = medium >= 0
    forward = self.p_next > 0 and rng.random() < self.p_next
    made = {"tokens": tokens, "phi": phi(stands, forward), "loss_mask": targets(stands)}
    return example | made | {"media": [value_of(example, "media")[number] for number in medium[stands]]}

  def measure(self, row: Mapping[str, Any]) -> tuple[int, int]:
    """The most tokens and media that this gives of a document, or of a picture with any of its captions.

    Raises:
      ValueError: the row has neither `items` nor `captions`.
    """
    if "items" not in row and "captions" not in row:
      raise ValueError(f"{row.get('key')!r} has neither items nor captions to measure; it has {sorted(row)}")
    documents = [row["items"]] if "items" in row else [[0, f" {caption}"] for caption in row["captions"]]
    spelled = [spell(items, self.tokenizer)[1] for items in documents]
    tokens, media = max(map(len, spelled)), max(int((medium >= 0).sum()) for medium in spelled)
    return min(tokens, self.length), min(media, self.media)


def marks(tokenizer: Tokenizer) -> tuple[int, int]:
  """The ids of `<image>` and `<EOC>`.

  Raises:
    ValueError: the tokenizer has no such tokens; the message tells how to add them.
  """
  try:
    return tokenizer.token_id(IMAGE), tokenizer.token_id(CHUNK)
  except ValueError as error:
    raise ValueError(f'{error}; set config.tokenizer.options = {{"added": ("{IMAGE}", "{CHUNK}")}}') from error


def prompt(parts: Sequence[Any], tokenizer: Tokenizer) -> dict[str, Any]:
  """The beginning of a document, for a model to go on with: `tokens` and `phi` [t], and its `media`.

  Args:
    parts: texts and media; the text "<EOC>", alone, ends the text before it where no medium does.
  """
  media = [part for part in parts if not isinstance(part, str)]
  numbers = iter(range(len(media)))
  items = [next(numbers) if not isinstance(part, str) else None if part == CHUNK else part for part in parts]
  tokens, medium = spell(items, tokenizer, finished=False)
  return {"tokens": tokens, "phi": phi(medium >= 0), "media": media}


def spell(
  items: Items, tokenizer: Tokenizer, finished: bool = True
) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " t"]]:
  """The ids of a document, and for each the number of the medium that it stands for, -1 if for none.

  Ids of special tokens that a text spells itself are left out: no text can name a medium or end a document.

  Args:
    items: texts, numbers of media, and None where a text ends though no medium follows.
    finished: whether `<EOC>` and `<EOS>` end it.
  """
  image, chunk = marks(tokenizer)
  special = {image, chunk, tokenizer.bos_id, tokenizer.eos_id}
  ids, numbers, open_text = [tokenizer.bos_id], [-1], False
  for item in items:
    if isinstance(item, str):
      text = [i for i in tokenizer.plain(item) if i not in special]
      ids += text
      numbers += [-1] * len(text)
      open_text = open_text or bool(text)
      continue
    end = [chunk] if open_text else []
    ids += end if item is None else [*end, image]
    numbers += [-1] * len(end) if item is None else [*[-1] * len(end), int(item)]
    open_text = False
  if finished:
    ids, numbers = [*ids, chunk, tokenizer.eos_id], [*numbers, -1, -1]
  return np.array(ids, np.int32), np.array(numbers, np.int32)


def stretch(
  stands: Bool[np.ndarray, " t"], length: int, most: int, rng: np.random.Generator | None
) -> Int[np.ndarray, " s"]:
  """The places of at most `length` tokens in a row, of which the first `most` that stand for a medium are kept.

  It begins anywhere with a medium among the next `length` tokens, or, without `rng`, at the start.
  """
  start, last = 0, max(0, len(stands) - length)
  if rng is not None and last:
    before = np.concatenate([[0], np.cumsum(stands)])
    starts = np.flatnonzero(before[length : length + last + 1] > before[: last + 1])
    start = int(starts[rng.integers(len(starts))]) if len(starts) else int(rng.integers(last + 1))
  rest = stands[start:]
  return start + np.flatnonzero(~rest | (np.cumsum(rest) <= most))[:length]


def phi(stands: Bool[np.ndarray, " t"], forward: bool = False) -> Int[np.ndarray, " t"]:
  """The medium, from 1, that each token looks at, 0 if none: the last one up to it, or, if `forward`, the next one.

  A token predicts the one after it; so, looking forward, `<image>` itself looks at the medium that follows.
  """
  before = np.cumsum(stands, dtype=np.int32)
  return np.where(before < before[-1:], before + 1, 0).astype(np.int32) if forward else before


def targets(stands: Bool[np.ndarray, " t"]) -> Bool[np.ndarray, " t"]:
  """Which tokens count when they are predicted: those of texts, but the first, which nothing precedes."""
  return ~stands & (np.arange(len(stands)) > 0)
