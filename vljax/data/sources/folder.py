"""`folder:DIR`: pictures in a folder; captions from texts beside them, from subfolders or from file names."""

import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from vljax import config
from vljax.data.sources import files
from vljax.data.sources.source import Source, class_order, filled, in_words

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
CAPTIONS = ("auto", "txt", "class", "name", "none")


class Folder(Source):
  """Every picture below a folder, in the order of the paths; the first subfolder is the class.

  `caption`: "txt" takes the lines of NAME.txt beside NAME.jpg, "class" the subfolder's name, "name" the file's name
  without a number at its end, both with _ and - read as spaces, "none" none. "auto" is txt where there are
  such files, else class where there are subfolders, else name.
  """

  def __init__(self, path: str, *, caption: str = "auto"):
    """Raises FileNotFoundError without the folder, ValueError if no picture is in it."""
    self.name = f"folder:{path}"
    config.choose("caption rule", caption, dict.fromkeys(CAPTIONS))
    folder = files.existing(path, "folder")
    self.folder = str(folder)
    found = files.below(folder, (*SUFFIXES, ".txt"))
    self.texts = {stem(name): name for name in found if name.lower().endswith(".txt")}
    self.names = [name for name in found if not name.lower().endswith(".txt")]
    if not self.names:
      raise ValueError(f"folder {str(path)!r} holds no picture; looked for {', '.join(SUFFIXES)}, also in subfolders")
    self.classes = class_order(name.split("/")[0] for name in self.names if "/" in name) or None
    if self.classes and all("/" in name for name in self.names):
      self.class_field = "folder"
    else:
      self.classes = None
    beside = any(stem(name) in self.texts for name in self.names)
    automatic = "txt" if beside else "class" if self.classes else "name"
    self.rule = automatic if caption == "auto" else caption

  def __len__(self) -> int:
    return len(self.names)

  def fields(self, index: int) -> dict[str, Any]:
    name = self.names[index]
    folder = name.split("/")[0] if self.classes else ""
    return {"key": name, "folder": folder} if folder else {"key": name}

  def captions(self, index: int, fields: Mapping[str, Any]) -> list[str] | None:
    if self.rule == "none":
      return None
    name, where = self.names[index], f"{self.name}: {self.names[index]!r}"
    if self.rule == "txt":
      text = self.texts.get(stem(name))
      data = (epath.Path(self.folder) / text).read_bytes() if text else b""
      lines = files.text_of(data, f"{self.name}: {text}").splitlines()
      return filled(lines, f"{where} has no caption: {text or f'{stem(name)}.txt'!r} is absent or empty")
    if self.rule == "class":
      return filled([in_words(fields.get("folder", ""))], f"{where} has no caption: it lies in no subfolder")
    return filled([words(stem(name).rpartition("/")[2])], f"{where} has no caption: its name holds no words")

  def image(self, index: int) -> bytes:
    return (epath.Path(self.folder) / self.names[index]).read_bytes()


def stem(name: str) -> str:
  """A file's path without its suffix, which a picture shares with the text beside it."""
  return name.rpartition(".")[0]


def words(name: str) -> str:
  """A file's name as words: `red_car-02` becomes "red car"; a trailing number is a counter, not a word."""
  return re.sub(r"(\b|(?<=\D))\d+$", "", in_words(name)).strip()
