"""Rows of one length that hold several documents, each as if it were alone.

Besides the documents' own `tokens`, `phi` and `loss_mask`, a row says which document a token belongs to (`segments`,
from 1; 0 is padding), where in it (`positions`), and which medium is the document's first (`first`). Attention within
segments, and `phi` and `first`, which number the media of the whole row, keep the documents apart.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from vljax.data.transform import Transform, value_of

OPEN = 64
"""Rows that a plan tries to fill up at a time."""


@dataclasses.dataclass(frozen=True)
class Pack(Transform):
  """One document as a row of `length` tokens with places for `media` media; `packed` puts more into a row.

  Gives nothing but the row: `tokens`, `phi`, `first`, `segments`, `positions` int32 [t], `loss_mask` bool [t],
  `images` uint8 [n f h w c], zeros where there is none, and `media_mask` bool [n]. Padding is segment 0 whatever its
  id is.
  """

  length: int
  media: int

  def __post_init__(self):
    if self.length < 2 or self.media < 0:
      raise ValueError(f"length = {self.length}, media = {self.media}; legal: 2 or more tokens, 0 or more media")

  def __call__(self, example, rng):
    return self.join([example])

  def join(self, documents: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The row of the documents in order; one that does not fit behind those before it is left out.

    Raises:
      ValueError: a document that does not fit into an empty row.
    """
    images = value_of(documents[0], "images")
    names = ("tokens", "phi", "first", "segments", "positions")
    row: dict[str, np.ndarray] = {name: np.zeros(self.length, np.int32) for name in names}
    row |= {"loss_mask": np.zeros(self.length, bool), "images": np.zeros((self.media, *images.shape[1:]), np.uint8)}
    end = media = segment = 0
    for document in documents:
      tokens, more = len(value_of(document, "tokens")), len(value_of(document, "images"))
      if tokens > self.length or more > self.media:
        found = f"a document of {tokens} tokens and {more} media"
        raise ValueError(f"{found} does not fit into a row of {self.length} and {self.media}")
      if end + tokens > self.length or media + more > self.media:
        continue
      place, segment = slice(end, end + tokens), segment + 1
      row["tokens"][place] = document["tokens"]
      row["phi"][place] = np.where(document["phi"] > 0, document["phi"] + media, 0)
      row["first"][place] = media + 1
      row["segments"][place] = segment
      row["positions"][place] = np.arange(tokens)
      row["loss_mask"][place] = document["loss_mask"]
      row["images"][media : media + more] = document["images"]
      end, media = end + tokens, media + more
    return row | {"media_mask": np.arange(self.media) < media}


def plan(
  tokens: Int[np.ndarray, " n"], media: Int[np.ndarray, " n"], length: int, most: int
) -> list[Int[np.ndarray, " k"]]:
  """Documents by number, put together so that each row holds at most `length` tokens and `most` media.

  Best fit of the documents by falling length: each goes into that row, of the last OPEN ones begun, which it leaves
  the least room in.

  Raises:
    ValueError: a document is larger than a row.
  """
  rows: list[list[int]] = []
  room: list[tuple[int, int]] = []
  for number in np.argsort(-np.asarray(tokens), kind="stable").tolist():
    need, slots = int(tokens[number]), int(media[number])
    if need > length or slots > most:
      raise ValueError(f"document {number} has {need} tokens and {slots} media; a row holds {length} and {most}")
    first = max(0, len(rows) - OPEN)
    fits = [i for i in range(first, len(rows)) if room[i][0] >= need and room[i][1] >= slots]
    if not fits:
      rows.append([])
      room.append((length, most))
      fits = [len(rows) - 1]
    best = min(fits, key=lambda i: room[i])
    rows[best].append(number)
    room[best] = (room[best][0] - need, room[best][1] - slots)
  return [np.array(row) for row in rows]
