"""Safetensors, whole and in shards."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from vljax.interop import safetensors_reader


def test_every_dtype(tmp_path):
  arrays = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "b": np.arange(3).astype(ml_dtypes.bfloat16),
    "c": np.ones((), np.float16),
    "d": np.arange(4),
    **{name: np.ones(2).astype(name) for name in safetensors_reader.DTYPES.values()},
  }
  safetensors_reader.write(tmp_path / "x.safetensors", arrays)
  found = safetensors_reader.state_dict(tmp_path / "x.safetensors")
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    assert found[name].dtype == array.dtype
    assert np.array_equal(found[name], array)
    assert found[name].shape == array.shape


def test_shards(tmp_path):
  index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
  file = tmp_path / "model.safetensors.index.json"
  file.write_text(json.dumps(index))
  for name, key in (("1", "a"), ("2", "c")):
    safetensors_reader.write(tmp_path / f"{name}.safetensors", {key: np.ones(2)})
  with pytest.raises(ValueError, match=r"index.json: the shard 2.safetensors lacks 'b', which the index places there"):
    safetensors_reader.state_dict(file)
  file.write_text("[]")
  with pytest.raises(ValueError, match=r"index.json: not an index of shards"):
    safetensors_reader.state_dict(file)


@pytest.mark.parametrize(
  ("shard", "found"), [(3, "3 is no shard"), (None, "None is no shard"), ("i.json", "'i.json' is no shard"), ([], "")]
)
def test_an_index_of_other_things_than_shards(tmp_path, shard, found):
  (tmp_path / "i.json").write_text(json.dumps({"weight_map": {"a": shard}}))
  with pytest.raises(ValueError, match=rf"i.json: not an index of shards, .* under 'weight_map' \(.*{found}"):
    safetensors_reader.state_dict(tmp_path / "i.json")


@pytest.mark.parametrize(("dtype", "kind"), [("float8_e4m3fn", "F8_E4M3"), ("float8_e5m2", "F8_E5M2")])
def test_floats_of_8_bits_are_refused(tmp_path, dtype, kind):
  arrays = {"a": np.ones(2, np.float32), "b": np.ones(2, getattr(ml_dtypes, dtype))}
  file = tmp_path / "x.safetensors"
  with pytest.raises(ValueError, match=f"x.safetensors: b is of dtype {dtype}; legal: float64, float32, .*, bool$"):
    safetensors_reader.write(file, arrays)
  file.write_bytes(safetensors.numpy.save(arrays))
  with pytest.raises(ValueError, match=f"x.safetensors: b is of dtype {kind}; legal: F64, F32, .*, BOOL$"):
    safetensors_reader.state_dict(file)


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_broken_files(tmp_path, content):
  (tmp_path / "x.safetensors").write_bytes(content[:-1])
  with pytest.raises(ValueError, match=r"x.safetensors: truncated or no safetensors file"):
    safetensors_reader.state_dict(tmp_path / "x.safetensors")


def test_missing(tmp_path):
  with pytest.raises(FileNotFoundError, match="does not exist"):
    safetensors_reader.state_dict(tmp_path / "x.safetensors")
