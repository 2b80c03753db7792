"""`interleaved:FILE`: pages of texts and pictures in JSON Lines, the pictures in a tar, a folder or the rows."""

import dataclasses
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from vljax.data.sources import files, globs, pages
from vljax.data.sources.json_lines import from_base64
from vljax.data.sources.source import Source
from vljax.data.sources.table import Table
from vljax.data.sources.tar import Tar

KEY_FIELDS = ("key", "doc", "id", "url")
PLACES = ("images.tar", "images")
"""Where the pictures of a file lie, beside it, if no option says it."""


@dataclasses.dataclass
class Counts:
  """What a source holds, and what was left out of it: pictures by cause, pages with too few or unreadable."""

  pages: int = 0
  pictures: int = 0
  missing: int = 0
  broken: int = 0
  small: int = 0
  narrow: int = 0
  plain: int = 0
  dropped: int = 0
  damaged: int = 0

  def __str__(self) -> str:
    causes = ("missing", "broken", "small", "narrow", "plain")
    left_out = ", ".join(f"{vars(self)[name]} {name}" for name in causes if vars(self)[name]) or "none"
    pages = f"{self.dropped} pages with too few" + (f", {self.damaged} damaged pages" if self.damaged else "")
    return f"{self.pages} pages with {self.pictures} pictures; left out: {left_out}, and {pages}"


class Interleaved(Source):
  """Pages as `items`, texts and numbers of pictures in order, and `media`, the pictures that these number.

  Rows are in one of three formats, which `auto` tells by their fields:

  - `items`: `{"items": [{"text": ...} | {"image": NAME, "alt": ...}, ...]}`, ours;
  - `mmc4`: `text_list` and `image_info`, each picture before the sentence that it was matched to;
  - `obelics`: `texts` and `images` of equal length, one of them null at each place, and `metadata`.

  A picture is named by its path in the tar or folder `images`, by its last part, or is base64 itself. Missing ones are
  left out, and so are pages that keep fewer than `least` or cannot be read; `counts` tells how many. The filters of
  M3W (Flamingo, arXiv 2204.14198, appendix A.3) are `side=64`, `ratio=3` and `plain=true`; they open every picture
  once, `plain` decodes it. Large sets are filtered once, by launch/prepare.py.
  """

  def __init__(
    self,
    path: str,
    *,
    images: str = "",
    format: str = "auto",
    similarity: float = 0.0,
    least: int = 1,
    side: int = 1,
    ratio: float = 0.0,
    plain: bool = False,
  ):
    """Opens the pages.

    Args:
      path: a file, or a pattern as `docs_{000..009}.jsonl`.
      images: tar or folder of the pictures, relative to the pages' folder.
      similarity: the least that an MMC4 picture is to have with its sentence.
      least: the fewest pictures that a page is to keep; 0: pages of texts alone stay.
      side: the least width and height in pixels; smaller pictures are left out.
      ratio: the greatest ratio of a picture's sides; 0: any.
      plain: whether pictures of a single color are left out.

    Raises:
      FileNotFoundError: there are no such pages or pictures.
      ValueError: an unknown format, a number out of range, or no page is left.
    """
    if least < 0:
      raise ValueError(f"interleaved:{path}: least = {least}; legal: 0 or more pictures of a page")
    if side < 1 or (ratio and ratio < 1):
      raise ValueError(f"interleaved:{path}: side = {side}, ratio = {ratio}; legal: 1 or more each")
    self.name, self.tables = f"interleaved:{path}", [Table(file) for file in globs.expand(path)]
    self.store = _store(epath.Path(self.tables[0].path).parent, images)
    self.read_page = pages.reader(format, self.tables[0][0], self.name, similarity)
    self.counts, self.least = Counts(), least
    self.unusable: set[tuple[int, int, int]] = set()
    check = pages.Check(side, ratio, plain)
    places = [
      (t, row) for t, table in enumerate(self.tables) for row in range(len(table)) if self._usable(t, row, check)
    ]
    if not places:
      raise ValueError(f"{self.name}: no page is left: {self.counts}")
    self.places = np.array(places)
    self.notes = str(self.counts)
    logging.info("%s: %s", self.name, self.notes)

  def _usable(self, table: int, row: int, check: pages.Check) -> bool:
    """Counts the pictures of a page; whether it keeps enough, and anything."""
    try:
      found = self.read_page(self.tables[table][row])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
      logging.warning("row %d of %s is no page: %r", row, self.tables[table].path, error)
      self.counts.damaged += 1
      return False
    kept = 0
    for number, picture in enumerate(found.pictures):
      cause = self._fault(picture, check)
      if cause is None:
        kept += 1
        continue
      self.unusable.add((table, row, number))
      setattr(self.counts, cause, getattr(self.counts, cause) + 1)
    enough = kept >= self.least and (kept > 0 or any(isinstance(item, str) for item in found.items))
    self.counts.pictures += kept if enough else 0
    self.counts.pages += enough
    self.counts.dropped += not enough
    return enough

  def __len__(self) -> int:
    return len(self.places)

  def fields(self, index: int) -> dict[str, Any]:
    return self._page(index)[0]

  def image(self, index: int) -> None:
    del index

  def record(self, index: int) -> tuple[dict[str, Any], None]:
    fields, pictures = self._page(index)
    return fields | {"media": [self._read(picture) for picture in pictures]}, None

  def _page(self, index: int) -> tuple[dict[str, Any], list[pages.Picture]]:
    table, row = map(int, self.places[index])
    stored = self.tables[table][row]
    whole = self.read_page(stored)
    page = whole.only([n for n in range(len(whole.pictures)) if (table, row, n) not in self.unusable])
    names = [stored[field] for field in KEY_FIELDS if isinstance(stored.get(field), str | int)]
    key = str(names[0]) if names else f"{epath.Path(self.tables[table].path).name}:{row}"
    alts = {"alts": [alt or "" for alt in page.alts]} if any(page.alts) else {}
    return {"key": key, "items": page.items, **alts}, page.pictures

  def _fault(self, picture: pages.Picture, check: pages.Check) -> str | None:
    if picture.inline is None and self._find(picture) is None:
      return "missing"
    try:
      return check(self._read(picture)) if check.any else None
    except ValueError:
      return "broken"

  def _find(self, picture: pages.Picture) -> str | None:
    """The first of the picture's names that there is a file of."""
    if isinstance(self.store, Tar):
      return next((name for name in picture.names if self.store.find(name) is not None), None)
    return next((name for name in picture.names if self.store and (epath.Path(self.store) / name).exists()), None)

  def _read(self, picture: pages.Picture) -> bytes:
    if picture.inline is not None:
      return from_base64(picture.inline, f"{self.name}: a picture")
    name = self._find(picture)
    if name is None:
      raise ValueError(f"{self.name}: the picture {picture.names} is not there any more")
    if isinstance(self.store, Tar):
      return self.store.read(self.store.find(name))
    return (epath.Path(self.store) / name).read_bytes()


def _store(folder: epath.Path, images: str) -> str | Tar | None:
  """Where the pictures are: in the named tar or folder, in one of the usual ones, or, with neither, in the rows."""
  there = files.existing(folder / images, "tar or folder of images") if images else None
  there = there or next((folder / name for name in PLACES if (folder / name).exists()), None)
  if there is None:
    return None
  return str(there) if there.is_dir() else Tar(there)
