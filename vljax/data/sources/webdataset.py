"""`webdataset:GLOB`: tar shards whose members KEY.jpg, KEY.txt, KEY.json, KEY.cls make one example."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from vljax.data.sources import files, globs
from vljax.data.sources.source import Source, filled, find_caption_fields, texts_of
from vljax.data.sources.tar import Tar

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp")


class WebDataset(Source):
  """Examples of all shards in their order. The key is a member's path up to the first dot of its file name.

  Captions are the lines of KEY.txt, else (or with `caption=FIELD`) a field of KEY.json, whose other fields are the
  example's fields; KEY.cls holds the label as a number. Keys without a picture are left out and counted in `missing`;
  so are, uncounted, members whose file name begins with a dot, as those `._NAME` that macOS adds to a tar.

  `also=audio.wav,depth.png,imu.npy` gives further members, KEY.audio.wav as the bytes `audio`; arrays for `.npy`.
  """

  def __init__(self, path: str, *, caption: tuple[str, ...] = (), also: tuple[str, ...] = ()):
    """Raises FileNotFoundError if no shard fits, ValueError for a damaged shard or when no key has a picture."""
    self.name, self.also = f"webdataset:{path}", also
    self.shards = [Tar(shard) for shard in globs.expand(path)]
    self.keys: list[str] = []
    self.members: list[dict[str, int]] = []
    shard_of: list[int] = []
    self.missing = 0
    for number, shard in enumerate(self.shards):
      groups: dict[str, dict[str, int]] = {}
      for member, name in enumerate(shard.names):
        if name.rpartition("/")[2].startswith("."):
          continue
        key, suffix = key_of(name)
        groups.setdefault(key, {})[suffix] = member
      for key, members in groups.items():
        if not self._image_suffix(members):
          self.missing += 1
          continue
        self.keys.append(key)
        self.members.append(members)
        shard_of.append(number)
    if not self.keys:
      raise ValueError(f"{self.name}: no key of {len(self.shards)} shards has a picture ({', '.join(IMAGES)})")
    if self.missing:
      logging.warning("%s: %d keys without a picture are left out", self.name, self.missing)
    self.shard_of = np.array(shard_of)
    self.has_text = any("txt" in members for members in self.members) and not caption
    self.caption_fields = () if self.has_text else find_caption_fields(self.fields(0), caption)

  def __len__(self) -> int:
    return len(self.keys)

  def fields(self, index: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if "json" in self.members[index]:
      fields = self._parsed(index, "json", dict, "an object with fields")
    if "cls" in self.members[index]:
      fields["label"] = self._parsed(index, "cls", int, "a number")
    return fields | {"key": self.keys[index]}

  def captions(self, index: int, fields: Mapping[str, Any]) -> list[str] | None:
    where = f"{self.name}: {self.keys[index]!r}"
    if self.has_text:
      data = self._read(index, "txt") if "txt" in self.members[index] else b""
      lines = files.text_of(data, f"{self.name}: {self.keys[index]}.txt").splitlines()
      return filled(lines, f"{where} has no caption: its .txt is absent or empty")
    return texts_of(fields, self.caption_fields, where) if self.caption_fields else None

  def image(self, index: int) -> bytes:
    return self._read(index, self._image_suffix(self.members[index]))

  def __getitem__(self, index: int) -> dict[str, Any]:
    return super().__getitem__(index) | {suffix.partition(".")[0]: self._more(index, suffix) for suffix in self.also}

  def _more(self, index: int, suffix: str) -> bytes | np.ndarray:
    if suffix not in self.members[index]:
      raise ValueError(f"{self.name}: {self.keys[index]!r} has no member .{suffix}")
    data = self._read(index, suffix)
    if not suffix.endswith(".npy"):
      return data
    try:
      return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
      raise ValueError(f"{self.name}: {self.keys[index]}.{suffix} holds no array: {error}") from error

  def _image_suffix(self, members: Mapping[str, int]) -> str:
    return image_suffix({suffix: number for suffix, number in members.items() if suffix not in self.also})

  def values(self, field: str) -> list[Any]:
    return list(self.keys) if field == "key" else super().values(field)

  def _parsed(self, index: int, suffix: str, kind: type, legal: str) -> Any:
    data = self._read(index, suffix)
    try:
      value = json.loads(data)
    except ValueError:
      value = None
    if not isinstance(value, kind):
      raise ValueError(f"{self.name}: {self.keys[index]}.{suffix} holds {data[:40]!r}; legal: {legal}")
    return value

  def _read(self, index: int, suffix: str) -> bytes:
    return self.shards[self.shard_of[index]].read(self.members[index][suffix])


def key_of(name: str) -> tuple[str, str]:
  """`a/b.left.jpg` -> ("a/b", "left.jpg"): key and suffix of a member."""
  folder, slash, file = name.removeprefix("./").rpartition("/")
  stem, _, suffix = file.partition(".")
  return folder + slash + stem, suffix.lower()


def image_suffix(members: Mapping[str, int]) -> str:
  """The suffix of the member that holds the picture, the empty string if there is none."""
  return next((suffix for suffix in members if suffix.rpartition(".")[2] in IMAGES), "")
