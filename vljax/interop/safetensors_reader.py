"""Safetensors files, whole or in shards, as numpy arrays."""

import json
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

INDEX = "model.safetensors.index.json"


def state_dict(path: epath.PathLike) -> dict[str, np.ndarray]:
  """Parameter name to array, of one file or of the shards that an index (`*.index.json`) names.

  Raises:
    FileNotFoundError: the file, or a shard that the index names, does not exist.
    ValueError: a file is truncated or broken, or a shard lacks a tensor that the index places there.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist")
  return _sharded(path) if path.name.endswith(".json") else _single(path)


def write(path: epath.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
  """Write one file, marked `format: pt` as transformers wants it."""
  contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
  epath.Path(path).write_bytes(safetensors.numpy.save(contiguous, metadata={"format": "pt"}))


def _single(path: epath.Path) -> dict[str, np.ndarray]:
  try:
    return safetensors.numpy.load_file(path)
  except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
    raise ValueError(f"{path}: truncated or no safetensors file ({error})") from error


def _sharded(path: epath.Path) -> dict[str, np.ndarray]:
  try:
    weight_map = json.loads(path.read_text())["weight_map"]
    names = sorted(set(weight_map.values()))
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"{path}: not an index of shards, which maps names to files under 'weight_map'") from error
  shards = {name: state_dict(path.parent / epath.Path(name).name) for name in names}
  for key, name in weight_map.items():
    if key not in shards[name]:
      raise ValueError(f"{path}: the shard {name} lacks {key!r}, which the index places there")
  return {key: shards[name][key] for key, name in weight_map.items()}
