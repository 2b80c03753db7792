"""`jsonl:FILE`: a picture by path or as base64, and text, in every row of a JSON Lines file."""

import base64
import binascii
import re
from typing import Any

from etils import epath

from vljax import config
from vljax.data.sources import files
from vljax.data.sources.source import Source, find_caption_fields
from vljax.data.sources.table import Table

IMAGE_FIELDS = ("image", "image_path", "path", "file_name", "filepath", "image_base64", "base64")
KEY_FIELDS = ("key", "id")
LONGEST_NAME = 255


class JsonLines(Source):
  """One example per row. A path is relative to the table's folder; base64 may be plain or a `data:` URL.

  The key is the field `key` or `id`, else the picture's path, else the number of the row. A picture that cannot be
  found or decoded is an error of its own example, so that a loader can pass it over.
  """

  def __init__(self, path: str, *, image: str = "", caption: tuple[str, ...] = (), class_: str | None = None):
    """Raises FileNotFoundError without the table, ValueError for an empty one or one without a field of pictures."""
    self.name, self.table = f"jsonl:{path}", Table(path)
    self.folder = str(epath.Path(self.table.path).parent)
    first = self.table[0]
    self.image_field = image or next((field for field in IMAGE_FIELDS if field in first), "")
    if not self.image_field or self.image_field not in first:
      raise ValueError(f"{self.name}: " + config.unknown(f"image field {image!r}", image, first))
    self.caption_fields = find_caption_fields(first, caption)
    if class_:
      self.class_field, self.classes = class_, self.classes_of(class_)

  def __len__(self) -> int:
    return len(self.table)

  def fields(self, index: int) -> dict[str, Any]:
    row = self.table[index]
    image = row.pop(self.image_field, None)
    named = next((row[field] for field in KEY_FIELDS if field in row), None)
    return row | {"key": str(named if named is not None else image if is_path(image) else index)}

  def image(self, index: int) -> bytes:
    value = self.table[index].get(self.image_field)
    where = f"{self.name}: row {index}"
    if not isinstance(value, str) or not value:
      raise ValueError(f"{where}: field {self.image_field!r} holds {value!r}; legal: a path or base64")
    if is_path(value):
      return files.existing(epath.Path(self.folder) / value, f"{where}: image").read_bytes()
    return from_base64(value, f"{where}: field {self.image_field!r}")


def from_base64(text: str, where: str) -> bytes:
  """The bytes of base64, plain or in a `data:` URL.

  Raises:
    ValueError: it is none.
  """
  try:
    return base64.b64decode(re.sub(r"^data:[^,]*,", "", text), validate=True)
  except binascii.Error as error:
    raise ValueError(f"{where} is neither a path nor base64: {text[:40]!r}") from error


def is_path(value: Any) -> bool:
  """Whether a text names a file: short and with a suffix. Base64 has no dot."""
  return isinstance(value, str) and len(value) <= LONGEST_NAME and "." in value and not value.startswith("data:")
