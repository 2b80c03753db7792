"""Text on a matplotlib page: measured, wrapped, in a font that has its letters."""

import functools
import unicodedata
from collections.abc import Iterable
from typing import Any

ELLIPSIS = "…"


class Lettering:
  """Writes text at inches from the upper left corner of a figure.

  Letters that DejaVu lacks come from other installed fonts; what none has is drawn as a box (the HTML page shows it
  in the reader's fonts).
  """

  def __init__(self, figure: Any, texts: Iterable[str] = ()):
    self._figure = figure
    self.families = ["DejaVu Sans", *_fonts_for(frozenset("".join(texts)))]

  def write(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """One line whose upper left (or, with ha="right", upper right) corner is at (x, y) inches."""
    width, height = self._figure.get_size_inches()
    style = {"va": "top", "family": self.families, "parse_math": False, **style}
    self._figure.text(x / width, 1 - y / height, text, size=size, **style)

  def paragraph(self, x: float, y: float, text: str, size: float, width: float, lines: int, **style: Any) -> float:
    """Wrapped text; returns the y below it."""
    for line in self.wrap(text, size, width, lines, **style):
      self.write(x, y, line, size, **style)
      y += leading(size)
    return y

  def wrap(self, text: str, size: float, width: float, lines: int, **style: Any) -> list[str]:
    """At most `lines` lines that are no wider than `width` inches; the last ends in an ellipsis if text is left.

    Breaks at spaces, but between letters where a word is longer than a line (and in scripts without spaces).
    """
    fits = lambda line: self.measure(line, size, **style) <= width
    wrapped: list[str] = []
    rest = " ".join(text.split())
    while rest and len(wrapped) < lines:
      end = _longest(rest, fits)
      if end < len(rest):
        space = rest.rfind(" ", 1, end + 1)
        end = space if space > 0 and fits(rest[space + 1 :].split(" ")[0]) else end
      wrapped.append(rest[:end].rstrip())
      rest = rest[end:].lstrip()
    if rest:
      last = f"{wrapped[-1]} {rest}"
      wrapped[-1] = last[: _longest(last, lambda line: fits(line + ELLIPSIS))].rstrip() + ELLIPSIS
    return wrapped

  def measure(self, text: str, size: float, weight: str = "normal", family: Any = None, **_: Any) -> float:
    """The width of a line in inches."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=family or self.families, size=size, weight=weight)
    width, _, _ = self._figure.canvas.get_renderer().get_text_width_height_descent(text, font, ismath=False)
    return width / self._figure.dpi


def leading(size: float) -> float:
  """Inches from one line to the next."""
  return size * 1.32 / 72


def _longest(text: str, fits) -> int:
  """The length of the longest start of `text` that fits, at least 1."""
  low, high = 1, len(text)
  while low < high:
    middle = (low + high + 1) // 2
    low, high = (middle, high) if fits(text[:middle]) else (low, middle - 1)
  return low


@functools.lru_cache(maxsize=8)
def _fonts_for(letters: frozenset[str]) -> tuple[str, ...]:
  """Installed fonts that, one after the other, have most of the letters that DejaVu lacks."""
  from matplotlib import font_manager

  shown = {ord(x) for x in letters if not unicodedata.category(x).startswith(("C", "Z"))}
  missing = shown - set(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())
  families = []
  for entry in sorted(font_manager.fontManager.ttflist, key=lambda e: (e.weight != 400, e.style != "normal", e.name)):
    if not missing:
      break
    if "Last Resort" in entry.name:  # has a box for every letter
      continue
    try:
      covered = missing & set(font_manager.get_font(entry.fname).get_charmap())
    except (OSError, RuntimeError):
      continue
    if covered:
      families.append(entry.name)
      missing -= covered
  return tuple(families)
