"""The report as one tall picture, drawn by matplotlib at fixed places in inches."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from vljax.report.content import Curve, Picture, Query, Report, Score
from vljax.report.lettering import Lettering, leading
from vljax.train.progress import duration

WIDTH, MARGIN, GAP, DPI = 10.0, 0.45, 0.3, 160
INNER = WIDTH - 2 * MARGIN
INK, GREY, LINE, PALE = "#111827", "#6b7280", "#d1d5db", "#f3f4f6"
BLUE, GREEN, ORANGE, PURPLE = "#2563eb", "#15803d", "#d97706", "#7c3aed"
COLUMNS, THUMB, QUERY_WIDTH, ROW = 3, 0.95, 2.0, 0.33


def draw(report: Report) -> bytes:
  """The PNG.

  Raises:
    ImportError: matplotlib is not installed.
  """
  with _quiet_about_fonts():
    height = _Page(report, 10.0, ink=False).lay_out()
    page = _Page(report, height)
    page.lay_out()
    return _png(page.figure)


def draw_curves(report: Report, width: float = 6.0, height: float = 3.4) -> bytes | None:
  """The curves alone, for the HTML page; None where there are none.

  Raises:
    ImportError: matplotlib is not installed.
  """
  if report.loss is None and not report.curves:
    return None
  figure = _figure(width, height)
  with _quiet_about_fonts():
    _curves(figure, report, (0.45, 0.25, width - 0.6, height - 0.65))
    return _png(figure)


class _Page:
  """One pass over the page, from top to bottom; without ink it only tells how tall the page is."""

  def __init__(self, report: Report, height: float, ink: bool = True):
    self.report, self.ink = report, ink
    self.figure = _figure(WIDTH, height)
    self.text = Lettering(self.figure, _texts(report))

  def lay_out(self) -> float:
    """Draw everything; returns the height that it takes."""
    y = self._head(MARGIN)
    y = self._measurements(y)
    if self.report.pictures:
      y = self._heading(y, "Pictures and their nearest names", self.report.picture_note)
      for first in range(0, len(self.report.pictures), COLUMNS):
        y = max(self._picture(i, y, p) for i, p in enumerate(self.report.pictures[first : first + COLUMNS])) + 0.17
    if self.report.queries:
      y = self._heading(y + 0.1, "Typed queries and their nearest pictures", self.report.query_note)
      for query in self.report.queries:
        y = self._query(y, query) + 0.1
    if self.report.credit:
      y = self.text.paragraph(MARGIN, y + 0.12, self.report.credit, 7.5, INNER, 6, color=GREY)
    return y + 0.3

  def _head(self, y: float) -> float:
    report = self.report
    y = self.text.paragraph(MARGIN, y, report.title, 20, INNER, 3, weight="bold", color=INK) + 0.04
    facts = [*([] if report.seconds is None else [f"trained in {duration(report.seconds)}"]), report.machine]
    y = self.text.paragraph(MARGIN, y, "  ·  ".join(facts), 9, INNER, 3, color=GREY) + 0.1
    lines = self.text.wrap(report.command, 8.5, INNER - 0.3, 6, family="DejaVu Sans Mono")
    height = len(lines) * leading(8.5) + 0.18
    self._box(MARGIN, y, INNER, height, PALE)
    for i, line in enumerate(lines):
      self.text.write(MARGIN + 0.15, y + 0.1 + i * leading(8.5), line, 8.5, family="DejaVu Sans Mono", color=INK)
    return y + height + GAP

  def _measurements(self, y: float) -> float:
    report = self.report
    curved = report.loss is not None or bool(report.curves)
    if not report.scores and not curved:
      return y
    width = 4.7 if curved else INNER
    below = y + 0.25 + ROW * len(report.scores) if report.scores else y
    if report.scores:
      self._table(y, width)
    if curved:
      left = MARGIN + (width + 0.75 if report.scores else 0.5)
      height = max(2.6, min(below - y, 4.5)) - 0.35
      if self.ink:
        _curves(self.figure, report, (left, y, WIDTH - MARGIN - left, height))
      below = max(below, y + height + 0.45)
    return below + GAP

  def _table(self, y: float, width: float) -> None:
    right = MARGIN + width
    bar = right - 2.75
    for x, head in ((right - 0.72, "held out"), (right, "chance")):
      self.text.write(x, y, head, 8, ha="right", color=GREY)
    for i, score in enumerate(self.report.scores):
      top = y + 0.25 + i * ROW
      self._box(MARGIN, top - 0.05, width, 0.008, LINE)
      (name,) = self.text.wrap(score.name, 9, bar - MARGIN - 0.1, 1)
      self.text.write(MARGIN, top + 0.05, name, 9, color=INK)
      self._bar(bar, top + 0.06, 1.25, score)
      self.text.write(right - 0.72, top + 0.05, score.show(score.value), 9, ha="right", weight="bold", color=INK)
      self.text.write(right, top + 0.05, score.show(score.chance), 9, ha="right", color=GREY)

  def _bar(self, x: float, y: float, width: float, score: Score) -> None:
    if not score.is_rate or score.chance is None:
      return
    self._box(x, y, width, 0.13, PALE)
    self._box(x, y, width * score.value, 0.13, BLUE)
    self._box(x + width * score.chance - 0.01, y - 0.03, 0.02, 0.19, ORANGE)

  def _picture(self, column: int, y: float, picture: Picture) -> float:
    cell = (INNER - (COLUMNS - 1) * 0.25) / COLUMNS
    left = MARGIN + column * (cell + 0.25)
    self._image(picture.image, left, y, THUMB)
    below, x, room = y, left + THUMB + 0.3, cell - THUMB - 0.3
    for name in picture.names:
      right = name in picture.truth
      style = {"weight": "bold", "color": GREEN} if right else {"color": INK}
      if right:
        self.text.write(x - 0.17, below, "✓", 8.5, **style)
      below = self.text.paragraph(x, below, name, 8.5, room, 2, **style) + 0.035
    if not set(picture.names) & set(picture.truth):
      below = self.text.paragraph(x, below + 0.02, f"is: {picture.truth[0]}", 8, room, 2, color=ORANGE)
    return max(below, y + THUMB)

  def _query(self, y: float, query: Query) -> float:
    count = max(1, len(query.images))
    size = min(0.85, (INNER - QUERY_WIDTH) / count - 0.06)
    lines = self.text.wrap(f"“{query.text}”", 10, QUERY_WIDTH - 0.2, 4, color=INK)
    middle = y + max(0.0, size - len(lines) * leading(10)) / 2
    for i, line in enumerate(lines):
      self.text.write(MARGIN, middle + i * leading(10), line, 10, color=INK)
    for i, image in enumerate(query.images):
      self._image(image, MARGIN + QUERY_WIDTH + i * (size + 0.06), y, size)
    return max(y + size, middle + len(lines) * leading(10))

  def _heading(self, y: float, title: str, note: str) -> float:
    y = self.text.paragraph(MARGIN, y, title, 13, INNER, 1, weight="bold", color=INK)
    return self.text.paragraph(MARGIN, y + 0.01, note, 8.5, INNER, 2, color=GREY) + 0.14

  def _image(self, image: np.ndarray, x: float, y: float, size: float) -> None:
    if not self.ink:
      return
    axes = _axes(self.figure, x, y, size, size)
    axes.imshow(image, interpolation="lanczos", interpolation_stage="rgba")
    axes.set(xticks=[], yticks=[], anchor="C")
    for spine in axes.spines.values():
      spine.set(color=LINE, linewidth=0.6)

  def _box(self, x: float, y: float, width: float, height: float, color: str) -> None:
    self.figure.add_artist(_rectangle(self.figure, x, y, width, height, color))


def _curves(figure: Any, report: Report, box: tuple[float, float, float, float]) -> None:
  """The loss, and below it the evaluations, within (x, y, width, height) inches."""
  x, y, width, height = box
  panels = ([(report.loss,)] if report.loss else []) + ([report.curves] if report.curves else [])
  each = (height - 0.42 * (len(panels) - 1)) / len(panels)
  for i, curves in enumerate(panels):
    axes = _axes(figure, x, y + i * (each + 0.42), width, each)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(colors=GREY, labelsize=7.5, length=2)
    axes.grid(color=PALE)
    axes.locator_params(nbins=5)
    if curves[0] is report.loss:
      _loss(axes, curves[0])
    else:
      for curve, color in zip(curves, (BLUE, GREEN, ORANGE, PURPLE) * len(curves), strict=False):
        axes.plot(curve.steps, 100 * np.array(curve.values), "o-", color=color, ms=2.5, lw=1.3, label=curve.name)
      axes.set_title("held out, %", fontsize=8.5, color=GREY, loc="left", pad=3)
      axes.legend(fontsize=7, frameon=False, labelcolor=INK)
      axes.set_ylim(bottom=0)
    if i == len(panels) - 1:
      axes.set_xlabel("step", fontsize=8, color=GREY, labelpad=1)


def _loss(axes: Any, curve: Curve) -> None:
  """Each value faintly, their moving average over a fortieth of the run strongly."""
  values = np.array(curve.values)
  axes.set_title("training loss", fontsize=8.5, color=GREY, loc="left", pad=3)
  if not len(values):
    return
  width = max(1, len(values) // 40)
  ends = np.arange(1, len(values) + 1)
  sums = np.concatenate([[0.0], np.cumsum(values)])
  starts = np.maximum(0, ends - width)
  axes.plot(curve.steps, values, color=BLUE, lw=0.8, alpha=0.3)
  axes.plot(curve.steps, (sums[ends] - sums[starts]) / (ends - starts), color=BLUE, lw=1.6)


def _figure(width: float, height: float) -> Any:
  try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
  except ImportError as error:
    raise ImportError("a report needs the package matplotlib: pip install 'vljax[eval]'") from error
  figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
  FigureCanvasAgg(figure)
  return figure


def _place(figure: Any, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
  """Inches from the upper left corner as matplotlib's shares from the lower left."""
  whole_width, whole_height = figure.get_size_inches()
  return x / whole_width, 1 - (y + height) / whole_height, width / whole_width, height / whole_height


def _axes(figure: Any, x: float, y: float, width: float, height: float) -> Any:
  return figure.add_axes(_place(figure, x, y, width, height))


def _rectangle(figure: Any, x: float, y: float, width: float, height: float, color: str) -> Any:
  from matplotlib.patches import Rectangle

  left, bottom, width, height = _place(figure, x, y, width, height)
  return Rectangle((left, bottom), width, height, color=color, linewidth=0, transform=figure.transFigure)


@contextlib.contextmanager
def _quiet_about_fonts() -> Iterator[None]:
  """Letters that no installed font has, and fonts without a bold cut, are drawn as well as can be, without a word."""
  logger = logging.getLogger("matplotlib.font_manager")
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    with warnings.catch_warnings():
      warnings.filterwarnings("ignore", message=".*[Gg]lyph.*missing")
      yield
  finally:
    logger.setLevel(level)


def _texts(report: Report) -> list[str]:
  shown = [name for picture in report.pictures for name in (*picture.names, *picture.truth[:1])]
  return [report.title, report.machine, report.credit, *shown, *(query.text for query in report.queries)]


def _png(figure: Any) -> bytes:
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", facecolor="white")
  return buffer.getvalue()
