"""State dicts as torch writes them, without torch."""

import hashlib
import zipfile

import ml_dtypes
import numpy as np
import pytest

from vljax.interop import torch_reader, torch_writer


def arrays() -> dict[str, np.ndarray]:
  return {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.ones((2, 0), np.float16),
    "bf16": np.arange(3).astype(ml_dtypes.bfloat16),
    "scale": np.float32(2.5).reshape(()),
    "long": np.array([2**40]),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
  }


def test_what_is_written_is_read(tmp_path):
  torch_writer.write(tmp_path / "x.pt", arrays())
  found = torch_reader.state_dict(tmp_path / "x.pt")
  assert list(found) == list(arrays())
  for name, array in arrays().items():
    assert found[name].dtype == array.dtype
    assert found[name].shape == array.shape
    assert np.array_equal(found[name], array)


def test_equal_arrays_give_equal_files(tmp_path):
  for name in ("a.pt", "b.pt"):
    torch_writer.write(tmp_path / name, arrays())
  digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a.pt", "b.pt")}
  assert len(digests) == 1


def test_data_can_be_mapped(tmp_path):
  torch_writer.write(tmp_path / "x.pt", arrays())
  with zipfile.ZipFile(tmp_path / "x.pt") as archive:
    assert archive.testzip() is None
    data = (tmp_path / "x.pt").read_bytes()
    for info in archive.infolist():
      name, extra = (
        int.from_bytes(data[info.header_offset + i : info.header_offset + i + 2], "little") for i in (26, 28)
      )
      assert (info.header_offset + 30 + name + extra) % 64 == 0


def test_a_dtype_without_a_storage(tmp_path):
  with pytest.raises(ValueError, match="x.pt: w is of dtype uint16; legal: bfloat16, bool"):
    torch_writer.write(tmp_path / "x.pt", {"w": np.ones(2, np.uint16)})
