"""Bytes at an offset of a file, from any thread and process, and the folder of caches."""

import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

from etils import epath


class RandomFile:
  """A file opened on first use; picklable, safe to read from many threads and after a fork."""

  def __init__(self, path: epath.PathLike):
    self.path = str(path)
    self._reset()

  def _reset(self) -> None:
    self._file: Any = None
    self._owner = 0
    self._lock = threading.Lock()

  def __getstate__(self) -> dict[str, str]:
    return {"path": self.path}

  def __setstate__(self, state: dict[str, str]) -> None:
    self.path = state["path"]
    self._reset()

  def __del__(self):
    if getattr(self, "_file", None) is not None:
      self._file.close()

  def read(self, offset: int, size: int) -> bytes:
    """`size` bytes from `offset`.

    Raises:
      FileNotFoundError: the file does not exist.
      ValueError: the file ends before.
    """
    with self._lock:
      if self._owner != os.getpid():
        self._file, self._owner = existing(self.path).open("rb"), os.getpid()
      file = self._file
      if "://" in self.path:
        file.seek(offset)
        data = file.read(size)
    if "://" not in self.path:
      data = os.pread(file.fileno(), size, offset)
    if len(data) < size:
      raise ValueError(f"{self.path} ends before byte {offset + size}; {size} bytes at {offset} were expected")
    return data


def existing(path: epath.PathLike, what: str = "file") -> epath.Path:
  """The path with `~` expanded.

  Raises:
    FileNotFoundError: there is nothing at it.
  """
  path = epath.Path(path).expanduser()
  if not path.exists():
    raise FileNotFoundError(f"{what} {str(path)!r} does not exist")
  return path


def stamp(path: epath.Path) -> tuple[int, int]:
  """Size and time of a file; both are the same only for the same content, for all that matters here."""
  if "://" in str(path):
    remote = path.stat()
    return remote.length, int(remote.mtime)
  local = os.stat(path)  # epath's stat fails for a file whose owner has no name, usual in containers
  return local.st_size, local.st_mtime_ns


def below(folder: epath.Path, suffixes: tuple[str, ...]) -> list[str]:
  """The paths, relative to the folder and sorted, of all files in it and its subfolders with one of the suffixes.

  Hidden files are left out: macOS writes `._NAME` beside NAME where a file system cannot hold its attributes.
  """
  bare = lambda path: pathlib.PurePosixPath(str(path).rpartition("://")[2])  # fsspec's walk drops gs://
  found = []
  for place, names in _walk(folder):
    inner = bare(place).relative_to(bare(folder))
    found += [str(inner / name) for name in names if name.lower().endswith(suffixes) and not name.startswith(".")]
  return sorted(found)


def _walk(folder: epath.Path) -> Iterator[tuple[epath.PathLike, list[str]]]:
  """Every folder with the names of its files; links are followed, but not back to a folder on the way to them."""
  if "://" in str(folder):
    yield from ((place, names) for place, _, names in folder.walk())
    return
  above: dict[str, tuple[str, ...]] = {}
  for place, inner, names in os.walk(folder, followlinks=True):
    way, real = above.pop(place, ()), os.path.realpath(place)
    if real in way:
      inner.clear()
      continue
    above |= {os.path.join(place, name): (*way, real) for name in inner}
    yield place, names


def text_of(data: bytes, where: str) -> str:
  """The text of a file, without the mark that Windows puts first.

  Raises:
    ValueError: it is not UTF-8.
  """
  try:
    return data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(f"{where} holds {data[:40]!r}; legal: text in UTF-8 ({error})") from error


def cache_folder() -> epath.Path:
  """`$XDG_CACHE_HOME/vljax`, or `~/.cache/vljax`."""
  root = os.environ.get("XDG_CACHE_HOME")
  return (epath.Path(root) if root else epath.Path("~/.cache").expanduser()) / "vljax"


def writable(folder: epath.Path) -> bool:
  """Whether the folder's permissions allow writing; they bind root as well."""
  try:
    return "://" not in str(folder) and bool(os.stat(folder).st_mode & 0o222) and os.access(folder, os.W_OK)
  except OSError:
    return False


def write_atomically(path: epath.Path, data: bytes) -> None:
  """Write under another name, then rename: a reader never sees half a file."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / f".{path.name}.{os.getpid()}.{threading.get_ident()}"
  try:
    temporary.write_bytes(data)
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)
