"""Torch's files (`.pt`, `.pth`, `.bin`, `.pkl`) read without torch, and without running anything they hold.

Three containers are known: the zip archive of `torch.save` (`<root>/data.pkl` beside `<root>/data/<n>`), the same with
a TorchScript module in it (`code/__torch__/...`), and the stream that torch wrote before version 1.6. A bare pickle of
tensors is the fourth: each of its storages is a little legacy stream.
"""

import io
import mmap
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax.interop import unpickler
from vljax.interop.unpickler import Bare, Global, Storage, Tensor

MAGIC = 0x1950A86A20F9469CFC6C
"""The first value of the stream format."""

MAX_MODULES = 20_000
"""More than any network has; a pickle can name one part exponentially often."""


def read(path: epath.PathLike) -> Any:
  """What the file holds: dicts, lists and plain values, with `Tensor`s whose data is not read yet.

  TorchScript modules become `Bare` objects. Local files are mapped into memory, so that data which is never asked for
  (an optimizer's state) is never read.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is truncated, of another format, or names a class that is not a tensor's.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist")
  return _guard(path, lambda: _parse(path))


def state_dict(path: epath.PathLike) -> dict[str, np.ndarray]:
  """Parameter name to array, of a state dict, a training checkpoint that has one, or a TorchScript module.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: see `read`; or the file holds no state dict.
  """
  path = epath.Path(path)
  tree = read(path)
  return _guard(path, lambda: {name: tensor.array() for name, tensor in _tensors(tree).items()})


def _guard(path: epath.Path, work: Callable[[], Any]) -> Any:
  """The work's result; whatever breaks on a broken file becomes one ValueError that names it."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", DeprecationWarning)  # of pickletools, about escapes in a broken string
      return work()
  except (ValueError, OverflowError, struct.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
    raise ValueError(f"{path}: {error or type(error).__name__}") from error
  except (EOFError, OSError, MemoryError, LookupError) as error:
    raise ValueError(f"{path}: truncated or broken ({type(error).__name__}: {error})") from error


def _bytes(path: epath.Path) -> memoryview:
  """The file's content: mapped where the file is local, read where it is not."""
  try:
    with open(path, "rb") as file:
      return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
  except FileNotFoundError:
    return memoryview(path.read_bytes())


def _parse(path: epath.Path) -> Any:
  data = _bytes(path)
  if bytes(data[:4]) == b"PK\x03\x04":
    with zipfile.ZipFile(_File(data)) as archive:
      return _read_zip({info.filename: info for info in archive.infolist()}, data)
  if bytes(data[:1]) == b"\x80":
    return _read_stream(_File(data))
  raise ValueError(f"neither a zip archive nor a pickle: it begins with {bytes(data[:8])!r}")


class _File(io.RawIOBase):
  """A file over bytes in memory that copies only what is read."""

  def __init__(self, data: memoryview):
    self.data, self.at = data, 0

  def read(self, size: int = -1) -> bytes:
    end = len(self.data) if size < 0 else min(self.at + size, len(self.data))
    start, self.at = self.at, max(self.at, end)
    return bytes(self.data[start:end])

  def readline(self, size: int = -1) -> bytes:
    line = bytes(self.data[self.at : self.at + 65536]).partition(b"\n")
    self.at += len(line[0]) + len(line[1])
    return line[0] + line[1]

  def seekable(self) -> bool:
    return True

  def tell(self) -> int:
    return self.at

  def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
    self.at = max(0, offset + (0, self.at, len(self.data))[whence])
    return self.at


def _read_zip(infos: Mapping[str, zipfile.ZipInfo], data: memoryview) -> Any:
  main = [n for n in infos if n == "data.pkl" or (n.count("/") == 1 and n.endswith("/data.pkl"))]
  if len(main) != 1:
    raise ValueError(f"the archive has {len(main)} files data.pkl, not one; it holds {', '.join([*infos][:5])}")
  root = main[0].removesuffix("data.pkl")
  big = f"{root}byteorder" in infos and bytes(_entry(infos, data, f"{root}byteorder")) == b"big"

  def storage(dtype: np.dtype, key: str, count: int, *rest: Any) -> Storage:
    read = lambda: _entry(infos, data, f"{root}data/{key}", count * dtype.itemsize)
    return Storage(dtype.newbyteorder(">" if big else "<"), count, read)

  script = any(n.startswith(f"{root}code/") for n in infos)
  return unpickler.loads(_File(_entry(infos, data, main[0])), storage, script=script)


def _entry(infos: Mapping[str, zipfile.ZipInfo], data: memoryview, name: str, size: int | None = None) -> memoryview:
  """One file of an archive, in place, its checksum verified."""
  if name not in infos:
    raise ValueError(f"the archive has no file {name!r}")
  info = infos[name]
  if info.compress_type != zipfile.ZIP_STORED:
    raise ValueError(f"the archive's file {name!r} is compressed; torch stores its data plainly")
  if size is not None and info.file_size != size:
    raise ValueError(f"the archive's file {name!r} has {info.file_size} bytes, not {size}")
  lengths = struct.unpack("<HH", data[info.header_offset + 26 : info.header_offset + 30])
  start = info.header_offset + 30 + sum(lengths)
  content = data[start : start + info.file_size]
  if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
    raise ValueError(f"the archive's file {name!r} is damaged: its checksum does not match")
  return content


def _read_stream(file: _File) -> Any:
  """A legacy stream, or, where the first value is not its magic number, a bare pickle."""
  first = unpickler.loads(file, _no_storage, extra=_NESTED)
  if first != MAGIC:
    return first
  protocol = unpickler.loads(file, _no_storage)
  if protocol != 1001:
    raise ValueError(f"the stream is of protocol {protocol!r}, not 1001")
  system = unpickler.loads(file, _no_storage)
  order = ">" if isinstance(system, dict) and system.get("little_endian") is False else "<"
  spans: dict[str, tuple[int, int]] = {}
  sizes: dict[str, int] = {}

  def storage(dtype: np.dtype, key: str, count: int, *rest: Any) -> Storage:
    if rest and rest[0] is not None:
      raise ValueError("the stream holds views of storages, which torch wrote before version 0.4")
    sizes[key] = dtype.itemsize
    return Storage(dtype.newbyteorder(order), count, lambda: _span(file.data, spans, key, count * dtype.itemsize))

  tree = unpickler.loads(file, storage)
  keys = unpickler.loads(file, _no_storage)
  at = file.tell()
  for key in map(str, keys if isinstance(keys, list) else []):
    if key not in sizes or len(file.data) < at + 8:
      raise ValueError(f"the stream ends before the storage {key!r}, or does not use it")
    (count,) = struct.unpack(f"{order}q", file.data[at : at + 8])
    start, at = at + 8, at + 8 + count * sizes[key]
    if count < 0 or at > len(file.data):
      raise ValueError(f"the stream ends within the storage {key!r}")
    spans[key] = (start, at)
  return tree


def _span(data: memoryview, spans: Mapping[str, tuple[int, int]], key: str, size: int) -> memoryview:
  start, end = spans.get(key, (0, 0))
  if end - start != size:
    raise ValueError(f"the storage {key!r} has {end - start} bytes, not {size}")
  return data[start:end]


def _no_storage(*args: Any) -> Storage:
  raise ValueError("a storage is named where none is stored")


def _nested(data: Any) -> Storage:
  """A storage that `pickle` wrote as the bytes of a stream of its own."""
  if not isinstance(data, bytes):
    raise ValueError(f"a nested storage is a {type(data).__name__}, not bytes")
  file = _File(memoryview(data))
  if unpickler.loads(file, _no_storage) != MAGIC:
    raise ValueError("a nested storage is not a stream")
  file.seek(0)
  storage = _read_stream(file)
  if not isinstance(storage, Storage):
    raise ValueError(f"a nested storage is a {type(storage).__name__}")
  return storage


_NESTED = {"torch.storage._load_from_bytes": Global("torch.storage._load_from_bytes", _nested)}


def _tensors(tree: Any) -> dict[str, Tensor]:
  """The named tensors of a state dict, of the state dict in a training checkpoint, or of a module."""
  if isinstance(tree, Bare):
    return _members(tree)
  inner = next((tree[k] for k in ("state_dict", "model", "module") if isinstance(tree.get(k), dict | Bare)), None) \
    if isinstance(tree, dict) else None  # fmt: skip
  if inner is not None:
    return _tensors(inner)
  if not isinstance(tree, dict) or not any(isinstance(v, Tensor) for v in tree.values()):
    raise ValueError(f"holds a {type(tree).__name__} without tensors by name, not a state dict")
  return {str(name): value for name, value in tree.items() if isinstance(value, Tensor)}


def _members(module: Bare) -> dict[str, Tensor]:
  """The dotted names of the tensors below a module; a member that is shared has several."""
  found: dict[str, Tensor] = {}
  todo: list[tuple[str, Bare]] = [("", module)]
  for steps, (prefix, part) in enumerate(todo):
    if steps > MAX_MODULES:
      raise ValueError(f"the module has more than {MAX_MODULES} parts, or holds itself")
    found.update((f"{prefix}{name}", value) for name, value in part.attributes.items() if isinstance(value, Tensor))
    todo.extend((f"{prefix}{name}.", value) for name, value in part.attributes.items() if isinstance(value, Bare))
  return found
