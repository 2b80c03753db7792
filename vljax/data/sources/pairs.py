"""`pairs:DIR`: a table of captions (JSON Lines) beside a tar or a folder of pictures."""

import itertools
import re
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from vljax.data.sources import files
from vljax.data.sources.source import Source, find_caption_fields, lookup
from vljax.data.sources.table import Table
from vljax.data.sources.tar import Tar


class Pairs(Source):
  """One example per row of the table; the picture is found by name in the tar (path, file name or stem).

  `image` names the field with the picture's name, or is a pattern as `{vendors}/{hexcode}.png`: a field of the
  pattern that holds a list makes one example per item. Rows whose picture is missing are left out, counted in
  `missing` and logged. The key is the picture's name, so that captions of one picture stay on one side of a split.
  """

  def __init__(
    self,
    path: str,
    *,
    table: str = "captions.jsonl",
    images: str = "images.tar",
    image: str = "image",
    caption: tuple[str, ...] = (),
    class_: str | None = None,
  ):
    """Raises FileNotFoundError for a missing file, ValueError for a damaged one or when no row finds its picture."""
    folder = files.existing(path, "folder")
    self.name = f"pairs:{path}/{table}"
    self.table = Table(folder / table)
    pictures = files.existing(folder / images, "tar or folder of images")
    self.store = Folder(pictures) if pictures.is_dir() else Tar(pictures)
    self.caption_fields = find_caption_fields(self.table[0], caption)
    self._match(image, str(pictures))
    if class_:
      self.class_field, self.classes = class_, self.classes_of(class_)

  def _match(self, pattern: str, pictures: str) -> None:
    rows, numbers, absent = [], [], []
    self.keys: list[str] = []
    for row in range(len(self.table)):
      for name in image_names(self.table[row], pattern, self.name):
        number = self.store.find(name)
        if number is None:
          absent.append(name)
          continue
        rows.append(row)
        numbers.append(number)
        self.keys.append(name)
    self.missing = len(absent)
    if not rows:
      raise ValueError(
        f"{self.name}: none of the {len(absent)} images of the table is in {pictures!r}; {absent[0]!r} is not"
      )
    if absent:
      self.notes = f"{len(absent)} of {len(absent) + len(rows)} images of the table are missing"
      message = "%s: %d of %d images of the table are not in %s and are left out; the first is %r"
      logging.warning(message, self.name, len(absent), len(absent) + len(rows), pictures, absent[0])
    self.rows, self.numbers = np.array(rows), np.array(numbers)

  def __len__(self) -> int:
    return len(self.rows)

  def fields(self, index: int) -> dict[str, Any]:
    row = self.table[int(self.rows[index])] | {"key": self.keys[index]}
    row.pop("image", None)
    return row

  def image(self, index: int) -> bytes:
    return self.store.read(int(self.numbers[index]))


class Folder:
  """Pictures of a folder by name, with the calls of a Tar."""

  def __init__(self, path: epath.Path):
    self.path = str(path)
    self.names: list[str] = []

  def find(self, name: str) -> int | None:
    """The number given to a file of the folder, None if there is none."""
    if not (epath.Path(self.path) / name).exists():
      return None
    self.names.append(name)
    return len(self.names) - 1

  def read(self, number: int) -> bytes:
    """The content of a file."""
    return (epath.Path(self.path) / self.names[number]).read_bytes()


def image_names(row: dict[str, Any], pattern: str, where: str) -> list[str]:
  """The picture names of a row: the value of a field, or every filling of a pattern with {fields}."""
  fields = re.findall(r"\{([^{}]+)\}", pattern)
  if not fields:
    value = lookup(row, pattern, where)
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
  values = [lookup(row, field, where) for field in fields]
  names = []
  for choice in itertools.product(*(value if isinstance(value, list) else [value] for value in values)):
    filled = iter(choice)
    names.append(re.sub(r"\{[^{}]+\}", lambda _, filled=filled: str(next(filled)), pattern))
  return names
