"""Whether text is likelier with its pictures: perplexity with the right ones, with others, and without any."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vljax.evaluate import bootstrap
from vljax.types import Batch, Int

Row = Mapping[str, np.ndarray]
Loss = Callable[[Batch], tuple[Any, Any]]
"""A batch of rows -> the sum of -log p over the tokens that count, and their number, for each row [b]."""

RIGHT, SHUFFLED, NONE = "right", "shuffled", "none"


def conditional(
  loss: Loss, rows: Sequence[Row], groups: Sequence[Any] | None = None, batch: int = 16, seed: int = 0
) -> dict[str, float]:
  """exp(sum of -log p / number of tokens) of held-out texts, by what the model is shown with them.

  The same tokens count each time: `right` has a row's own media, `shuffled` those of another row, `none` has the text
  alone, without media and `<image>`. `shuffled/gain` and `none/gain` are how many nats a token is dearer there than
  with the right media, with the ends of its 95 % interval over paired draws of the groups, `gain/low` and `gain/high`;
  `low` > 0 says that the pictures are used.

  Args:
    rows: as the transform `pack` makes them, of one document each.
    groups: of each row; rows of one group (captions of one picture) are drawn together and never lend each other their
      media. None: each row is its own.
    batch: rows per call of `loss`; the last call is filled up with its last row.

  Raises:
    ValueError: fewer than two groups, no token that counts, or groups so uneven that no shuffling parts them.
  """
  member = bootstrap.members(range(len(rows)) if groups is None else groups)
  if len(member) != len(rows) or len(np.unique(member)) < 2:
    raise ValueError(f"{len(rows)} rows with {len(np.unique(member))} groups; legal: a group for each, two or more")
  lender = lenders(member, np.array([int(row["media_mask"].sum()) for row in rows]), seed)
  views: dict[str, Callable[[int], Row]] = {
    RIGHT: lambda i: rows[i],
    SHUFFLED: lambda i: {**rows[i], "images": rows[lender[i]]["images"]},
    NONE: lambda i: without_media(rows[i]),
  }
  sums, results = {}, {}
  counts = np.zeros(0)
  for name, view in views.items():
    sums[name], counts = _sums(loss, view, len(rows), batch)
    if not counts.sum():
      raise ValueError(f"no token of {len(rows)} rows counts when it is predicted")
    results[f"perplexity/{name}"] = float(np.exp(sums[name].sum() / counts.sum()))
  for name in (SHUFFLED, NONE):
    more = sums[name] - sums[RIGHT]
    low, high = bootstrap.interval(bootstrap.ratios(more, counts, member, seed))
    gain = float(more.sum() / counts.sum())
    results |= {f"{name}/gain": gain, f"{name}/gain/low": low, f"{name}/gain/high": high}
  return results


def lenders(member: Int[np.ndarray, " n"], media: Int[np.ndarray, " n"], seed: int = 0) -> Int[np.ndarray, " n"]:
  """A permutation of the rows that gives each the media of a row of another group, of as many media.

  In random order with the groups kept together, each row takes from the row that stands as far on as the greatest
  group is large.

  Raises:
    ValueError: a group holds more than half of the rows with so many media.
  """
  rng = np.random.default_rng(seed)
  taken = np.arange(len(member))
  for count in np.unique(media[media > 0]):
    rows = np.flatnonzero(media == count)
    rank = rng.permutation(member.max() + 1)
    order = rows[np.argsort(rank[member[rows]], kind="stable")]
    largest = int(np.bincount(member[rows]).max())
    if 2 * largest > len(rows):
      raise ValueError(f"{largest} of {len(rows)} rows with {count} media are of one group; others cannot lend to all")
    taken[order] = np.roll(order, -largest)
  return taken


def without_media(row: Row) -> dict[str, np.ndarray]:
  """A row of one document as text alone: without media, and without the tokens that stand for them."""
  real = row["segments"] > 0
  stands = real & ~row["loss_mask"] & (row["positions"] > 0)
  kept = np.flatnonzero(real & ~stands)
  made = {name: np.zeros_like(value) for name, value in row.items()}
  for name in ("tokens", "segments", "loss_mask"):
    made[name][: len(kept)] = row[name][kept]
  made["positions"][: len(kept)] = np.arange(len(kept))
  return made


def _sums(loss: Loss, view: Callable[[int], Row], count: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
  """The sums of -log p and the numbers of tokens of all rows."""
  found = []
  for first in range(0, count, batch):
    rows = [view(min(i, count - 1)) for i in range(first, first + batch)]
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    found.append([np.asarray(x, np.float64)[: count - first] for x in loss(stacked)])
  sums, counts = (np.concatenate(parts) for parts in zip(*found, strict=True))
  return sums, counts
