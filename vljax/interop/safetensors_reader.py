"""Safetensors files, whole or in shards, as numpy arrays."""

import json
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

INDEX = "model.safetensors.index.json"
DTYPES = {
  "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "C64": "complex64", "I64": "int64",
  "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
  "BOOL": "bool",
}  # fmt: skip
"""The files' dtypes that are read and written, as numpy's: not the 8-bit floats, whose scales lie elsewhere."""


def state_dict(path: epath.PathLike) -> dict[str, np.ndarray]:
  """Parameter name to array, of one file or of the shards that an index (`*.index.json`) names.

  Raises:
    FileNotFoundError: the file, or a shard that the index names, does not exist.
    ValueError: a file is truncated or broken, holds another dtype than `DTYPES`, or is no index of such files; or a
      shard lacks a tensor that the index places there.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist")
  return _sharded(path) if path.name.endswith(".json") else _single(path)


def write(path: epath.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
  """Write one file, marked `format: pt` as transformers wants it.

  Raises:
    ValueError: an array of another dtype than `DTYPES`.
  """
  for name, array in arrays.items():
    if array.dtype.name not in DTYPES.values():
      raise ValueError(f"{path}: {name} is of dtype {array.dtype}; legal: {', '.join(DTYPES.values())}")
  contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
  epath.Path(path).write_bytes(safetensors.numpy.save(contiguous, metadata={"format": "pt"}))


def _single(path: epath.Path) -> dict[str, np.ndarray]:
  try:
    with safetensors.safe_open(path, framework="np") as file:
      dtypes = {name: file.get_slice(name).get_dtype() for name in file.offset_keys()}
      others = [name for name in dtypes if dtypes[name] not in DTYPES]
      if not others:
        return {name: file.get_tensor(name) for name in dtypes}
  except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
    raise ValueError(f"{path}: truncated or no safetensors file ({error})") from error
  raise ValueError(f"{path}: {others[0]} is of dtype {dtypes[others[0]]}; legal: {', '.join(DTYPES)}")


def _sharded(path: epath.Path) -> dict[str, np.ndarray]:
  try:
    weight_map = json.loads(path.read_text())["weight_map"]
    names = sorted(set(weight_map.values()))
    if wrong := [name for name in names if not isinstance(name, str) or name.endswith(".json")]:
      raise ValueError(f"{wrong[0]!r} is no shard")
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f"{path}: not an index of shards, which maps names to files under 'weight_map' ({error})"
    ) from error
  shards = {name: state_dict(path.parent / epath.Path(name).name) for name in names}
  for key, name in weight_map.items():
    if key not in shards[name]:
      raise ValueError(f"{path}: the shard {name} lacks {key!r}, which the index places there")
  return {key: shards[name][key] for key, name in weight_map.items()}
