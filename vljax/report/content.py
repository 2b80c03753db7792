"""What a report says: plain data, so that any run can fill it and any page can draw it."""

import dataclasses
import math

import numpy as np

from vljax.types import UInt8


@dataclasses.dataclass(frozen=True)
class Score:
  """A line of the table: a metric on held-out data beside what guessing gives."""

  name: str
  value: float
  chance: float | None = None

  @property
  def is_rate(self) -> bool:
    return self.chance is not None and 0.0 <= self.chance <= 1.0 and (0.0 <= self.value <= 1.0)

  def show(self, value: float | None) -> str:
    """The number as the table prints it: rates in percent."""
    if value is None or not math.isfinite(value):
      return "–"
    return f"{100 * value:.1f} %" if self.is_rate else f"{value:.4g}"


@dataclasses.dataclass(frozen=True)
class Curve:
  """A series over the steps of the run."""

  name: str
  steps: tuple[int, ...]
  values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Picture:
  """A held-out picture with its nearest names, best first, and the names that are right."""

  image: UInt8[np.ndarray, "h w 3"]
  names: tuple[str, ...]
  truth: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Query:
  """A typed text with its nearest held-out pictures, best first."""

  text: str
  images: tuple[UInt8[np.ndarray, "h w 3"], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """The page of a contrastive run.

  Attributes:
    title: what was trained.
    command: how, to be copied.
    machine: on what.
    seconds: how long; None is left out.
    scores: the table against chance.
    loss: drawn against the steps; None is left out.
    curves: evaluations over the steps, drawn together below the loss.
    pictures: picture to names; `picture_note` says how they were chosen.
    queries: text to pictures; `query_note` says among which.
    credit: whose data it is.
  """

  title: str
  command: str
  machine: str
  seconds: float | None = None
  scores: tuple[Score, ...] = ()
  loss: Curve | None = None
  curves: tuple[Curve, ...] = ()
  pictures: tuple[Picture, ...] = ()
  picture_note: str = ""
  queries: tuple[Query, ...] = ()
  query_note: str = ""
  credit: str = ""
