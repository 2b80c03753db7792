"""Rows of interleaved data sets as pages, and which pictures of a page are worth keeping."""

import dataclasses
import functools
import json
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from typing import Any

from vljax import config
from vljax.data import decode
from vljax.data.sources.json_lines import is_path


@dataclasses.dataclass(frozen=True)
class Picture:
  """Names under which a picture may lie, the likeliest first, or its base64."""

  names: tuple[str, ...] = ()
  inline: str | None = None


@dataclasses.dataclass
class Page:
  """Texts and numbers of pictures in order, the pictures, and the text that stands for each, None if there is none.

  Texts with no picture between them are one, parted by `between`.
  """

  between: str = "\n\n"
  items: list[str | int] = dataclasses.field(default_factory=list)
  pictures: list[Picture] = dataclasses.field(default_factory=list)
  alts: list[str | None] = dataclasses.field(default_factory=list)

  def write(self, text: str | None) -> None:
    """Adds a text that is not blank."""
    text = (text or "").strip()
    if text and self.items and isinstance(self.items[-1], str):
      self.items[-1] += self.between + text
    elif text:
      self.items.append(text)

  def show(self, picture: Picture, alt: str | None = None) -> None:
    """Adds a picture."""
    self.items.append(len(self.pictures))
    self.pictures.append(picture)
    self.alts.append(alt)

  def only(self, kept: Collection[int]) -> "Page":
    """The page with these of its pictures."""
    page = Page(self.between)
    for item in self.items:
      if isinstance(item, str):
        page.write(item)
      elif item in kept:
        page.show(self.pictures[item], self.alts[item])
    return page


Read = Callable[[Mapping[str, Any]], Page]


def reader(format: str, first: Mapping[str, Any], where: str, similarity: float = 0.0) -> Read:
  """What turns a row into a page; `auto` goes by the fields of the first row.

  Raises:
    ValueError: an unknown format, or fields of none.
  """
  if format == "auto":
    format = next((name for name, (field, _) in FORMATS.items() if field in first), "")
    if not format:
      fields = ", ".join(f"{field} ({name})" for name, (field, _) in FORMATS.items())
      raise ValueError(f"{where}: rows with {sorted(first)} are no pages; legal: rows with {fields}")
  read = config.choose("format of pages", format, FORMATS)[1]
  return functools.partial(mmc4, similarity=similarity) if read is mmc4 else read


def ours(row: Mapping[str, Any]) -> Page:
  """Items with a `text` or an `image`, and `alt`; a bare string is a text."""
  page = Page()
  for item in row["items"]:
    if isinstance(item, str) or "text" in item:
      page.write(item if isinstance(item, str) else item["text"])
    else:
      page.show(named(item["image"]), item.get("alt"))
  return page


def mmc4(row: Mapping[str, Any], similarity: float = 0.0) -> Page:
  """Sentences, and before each the pictures matched to it with at least this similarity (MMC4, arXiv 2304.06939)."""
  page = Page(between=" ")
  matched: dict[int, list[Picture]] = {}
  for info in row["image_info"]:
    if info.get("matched_sim", 1.0) >= similarity:
      picture = Picture(inline=info["image_base64"]) if info.get("image_base64") else named(info["image_name"])
      matched.setdefault(info["matched_text_index"], []).append(picture)
  for number, sentence in enumerate(row["text_list"]):
    for picture in matched.get(number, ()):
      page.show(picture)
    page.write(sentence)
  return page


def obelics(row: Mapping[str, Any]) -> Page:
  """A text or a picture at each place (OBELICS, arXiv 2306.16527); pictures by file name or the end of their URL."""
  page = Page()
  metadata = row.get("metadata")
  told = json.loads(metadata) if isinstance(metadata, str) else metadata
  for place, (text, image) in enumerate(zip(row["texts"], row["images"], strict=True)):
    if not image:
      page.write(text)
      continue
    about = (told[place] if told else None) or {}
    picture = named(image)
    if picture.inline is None:
      last = urllib.parse.unquote(urllib.parse.urlparse(image).path.rpartition("/")[2])
      names = (about.get("formatted_filename"), image, last)
      picture = Picture(names=tuple(dict.fromkeys(name for name in names if name)))
    page.show(picture, about.get("alt_text"))
  return page


FORMATS: dict[str, tuple[str, Read]] = {
  "items": ("items", ours),
  "mmc4": ("text_list", mmc4),
  "obelics": ("texts", obelics),
}
"""Format to the field that tells it and what reads it."""


def named(value: str) -> Picture:
  """The picture of a path, of a URL, or of base64."""
  return Picture(names=(value,)) if is_path(value) or "://" in value[:16] else Picture(inline=value)


@dataclasses.dataclass(frozen=True)
class Check:
  """Why a picture is left out: `broken`, `small` (a side below `side` pixels), `narrow` (longer than `ratio` times its
  width or height; 0: never) or, if `plain`, `plain` (all of one color)."""

  side: int = 1
  ratio: float = 0.0
  plain: bool = False

  @property
  def any(self) -> bool:
    """Whether there is anything to look for."""
    return self.side > 1 or self.ratio > 0 or self.plain

  def __call__(self, data: bytes) -> str | None:
    try:
      image = decode.open_rgb(data)
      short, long = sorted(image.size)
      if short < self.side:
        return "small"
      if self.ratio and long > self.ratio * short:
        return "narrow"
      bands: Any = decode.load(image).getextrema() if self.plain else ()
    except ValueError:
      return "broken"
    return "plain" if self.plain and all(low == high for low, high in bands) else None
