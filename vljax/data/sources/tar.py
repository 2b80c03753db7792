"""Members of a tar by name or number, through an index of offsets that is built once."""

import hashlib
import io
import pathlib
import tarfile
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from vljax.data.sources import files

BLOCK = 512
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""How gzip, bzip2, xz and zstandard files begin."""


class Tar:
  """Random access to the files of an uncompressed tar; only their names and offsets are held in memory."""

  def __init__(self, path: epath.PathLike):
    self.path = str(path)
    self.names, self.offsets, self.sizes = index(epath.Path(path))
    self._file = files.RandomFile(self.path)
    self._numbers: dict[str, int] | None = None

  def __getstate__(self) -> dict[str, Any]:
    return vars(self) | {"_numbers": None}

  def __len__(self) -> int:
    return len(self.names)

  def read(self, number: int) -> bytes:
    """The content of a member."""
    return self._file.read(int(self.offsets[number]), int(self.sizes[number]))

  def find(self, name: str) -> int | None:
    """The number of a member by its path, by its path without `./` or suffix, or by its last part alone."""
    if self._numbers is None:
      self._numbers = aliases(self.names)
    return self._numbers.get(name.removeprefix("./"))


def aliases(names: list[str]) -> dict[str, int]:
  """Every way to name a member: path, path without suffix, file name, file name without suffix; the first is exact.

  Shorter forms that would fit several members name none.
  """
  exact = {name.removeprefix("./"): number for number, name in enumerate(names)}
  short: dict[str, int] = {}
  for name, number in exact.items():
    path = pathlib.PurePosixPath(name)
    for form in {str(path.with_suffix("")), path.name, path.stem}:
      short[form] = -1 if form in short else number
  return {form: number for form, number in short.items() if number >= 0} | exact


def index(path: epath.Path) -> tuple[list[str], np.ndarray, np.ndarray]:
  """Names, offsets and sizes [n] of the regular files in a tar, from the stored index or by reading the headers.

  The index is stored beside the tar as `NAME.tar.index.npz`, or in the cache folder where that may not be written;
  a tar of another size or time than the stored one is read again.

  Raises:
    FileNotFoundError: there is no such tar.
    ValueError: it is compressed, not a tar, or ends early.
  """
  path = files.existing(path, "tar")
  stamp = np.array(files.stamp(path))
  beside = path.parent / f"{path.name}.index.npz"
  digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
  cached = files.cache_folder() / f"{path.name}.{digest}.index.npz"
  for place in (beside, cached):
    found = _load(place, stamp)
    if found:
      return found
  names, offsets, sizes = scan(path)
  buffer = io.BytesIO()
  text = np.frombuffer("\0".join(names).encode("utf-8", "surrogateescape"), np.uint8)
  np.savez(buffer, stamp=stamp, names=text, offsets=offsets, sizes=sizes)
  place = beside if files.writable(path.parent) else cached
  try:
    files.write_atomically(place, buffer.getvalue())
  except OSError as error:
    logging.warning("the index of %s could not be stored at %s (%s); it is built at each start", path, place, error)
  return names, offsets, sizes


def _load(place: epath.Path, stamp: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray] | None:
  if not place.exists():
    return None
  try:
    with place.open("rb") as file, np.load(file, allow_pickle=False) as stored:
      if not np.array_equal(stored["stamp"], stamp):
        return None
      text = stored["names"].tobytes().decode("utf-8", "surrogateescape")
      return text.split("\0") if text else [], stored["offsets"], stored["sizes"]
  except Exception as error:  # a damaged index is only a lost shortcut
    logging.warning("the index %s cannot be read (%s); it is built again", place, error)
    return None


def scan(path: epath.Path) -> tuple[list[str], np.ndarray, np.ndarray]:
  """Names, offsets and sizes [n] of the regular files, by reading every header and no content.

  Raises:
    ValueError: it is compressed, not a tar, or ends early; the offset and the number of readable members are named.
  """
  names: list[str] = []
  places: list[tuple[int, int]] = []
  with path.open("rb") as file:
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(6).startswith(COMPRESSED):
      raise ValueError(f"tar {str(path)!r} is compressed; random access needs a plain tar: decompress it first")
    file.seek(0)
    end, problem = 0, ""
    try:
      with tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
          size = member.size if member.isfile() else 0
          if member.offset_data + size > length:
            raise tarfile.ReadError("unexpected end of data")
          end = member.offset_data + -(-size // BLOCK) * BLOCK
          if member.isfile():
            names.append(member.name)
            places.append((member.offset_data, size))
          vars(tar)["members"].clear()  # they would fill the memory
    except (tarfile.TarError, EOFError) as error:
      problem = str(error)
    file.seek(end)
    mark = file.read(BLOCK)
  if mark.strip(b"\0") or 0 < len(mark) < BLOCK:
    problem = problem or "no header and no end mark"
  if problem and not names:
    raise ValueError(f"{str(path)!r} is not a tar, or its first member is cut off ({problem})")
  if problem:
    message = f"tar {str(path)!r} is cut off or damaged at byte {end} of {length}: {len(names)} members are readable"
    raise ValueError(f"{message}, the next one is not ({problem})")
  if not mark:
    logging.warning("tar %s has no end mark after its %d members; it may have been cut off", path, len(names))
  offsets, sizes = np.array(places, np.int64).reshape(-1, 2).T
  return names, offsets, sizes
