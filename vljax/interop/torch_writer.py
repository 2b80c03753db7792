"""A plain state dict written as torch writes it (a zip archive), without torch."""

import io
import struct
import zipfile
from collections.abc import Mapping

import numpy as np
from etils import epath

from vljax.interop.unpickler import DTYPES, STORAGES

ALIGNMENT = 64
_STORAGE_OF = {np.dtype(DTYPES[name]): storage for storage, name in STORAGES.items() if storage != "UntypedStorage"}
_DATE = (1980, 1, 1, 0, 0, 0)


def write(path: epath.PathLike, arrays: Mapping[str, np.ndarray], root: str = "archive") -> None:
  """Write parameter name to array as a `.pt` that `torch.load(path, weights_only=True)` reads.

  Equal arrays give equal files: names, order and bytes depend on nothing else.

  Raises:
    ValueError: an array of a dtype that torch has no storage for.
  """
  for name, array in arrays.items():
    if array.dtype.newbyteorder("=") not in _STORAGE_OF:
      legal = ", ".join(sorted(str(d) for d in _STORAGE_OF))
      raise ValueError(f"{path}: {name} is of dtype {array.dtype}; legal: {legal}")
  with epath.Path(path).open("wb") as file, zipfile.ZipFile(file, "w") as archive:
    put = lambda name, data: archive.writestr(_info(archive, f"{root}/{name}"), data)
    put("data.pkl", _pickle(arrays))
    put("byteorder", b"little")
    for index, array in enumerate(arrays.values()):
      put(f"data/{index}", np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data)
    put("version", b"3\n")


def _info(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
  """The header of an entry whose data begins at a multiple of 64 bytes, so that it can be mapped."""
  info = zipfile.ZipInfo(name, _DATE)
  begin = archive.fp.tell() + 30 + len(name) + 4
  padding = -begin % ALIGNMENT
  info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
  return info


def _pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
  """The protocol 2 pickle of an OrderedDict of tensors."""
  out = io.BytesIO()
  out.write(b"\x80\x02ccollections\nOrderedDict\n)R(")
  for index, (name, array) in enumerate(arrays.items()):
    strides = [int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim)]
    out.write(_text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(")
    kind = _STORAGE_OF[array.dtype.newbyteorder("=")].encode()
    out.write(b"(" + _text("storage") + b"ctorch\n" + kind + b"\n" + _text(str(index)) + _text("cpu"))
    out.write(_integer(array.size) + b"tQ" + _integer(0))
    out.write(_tuple(array.shape) + _tuple(strides) + b"\x89ccollections\nOrderedDict\n)RtR")
  out.write(b"u.")
  return out.getvalue()


def _text(value: str) -> bytes:
  data = value.encode()
  return b"X" + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
  if 0 <= value < 2**31:
    return b"J" + struct.pack("<i", value)
  data = value.to_bytes(9, "little")
  return b"\x8a" + struct.pack("<B", len(data)) + data


def _tuple(values) -> bytes:
  return b"(" + b"".join(map(_integer, values)) + b"t"
