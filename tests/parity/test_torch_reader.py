"""Every container that torch writes, read without torch; and ours, read by torch.

`python tests/parity/test_torch_reader.py FOLDER` writes the files of tests/interop/golden.
"""

import collections
import pathlib
import pickle
import sys

import numpy as np
import pytest

from vljax.interop import torch_reader, torch_writer

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]


def tensors(torch) -> dict:
  """Tensors of every dtype and of every way to lie in a storage."""
  base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 8
  return collections.OrderedDict(
    whole=base,
    transposed=base.t(),
    strided=base[1:, ::2],
    half=torch.arange(3).half() / 2,
    bfloat16=torch.arange(5).bfloat16() / 4,
    double=torch.arange(2).double() / 3,
    long=torch.arange(7),
    int=torch.arange(3, dtype=torch.int32),
    byte=torch.arange(250, 256, dtype=torch.uint8),
    bool=torch.tensor([True, False]),
    scalar=torch.tensor(2.5),
    parameter=torch.nn.Parameter(torch.ones(2, 2) / 4),
    empty=torch.zeros(0, 3),
    expanded=torch.ones(1).expand(5, 4),
  )


def module(torch):
  class Part(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.ln = torch.nn.LayerNorm(3)
      self.steps = [1, 2]

    def forward(self, x):
      return self.ln(x) * len(self.steps)

  class Whole(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.conv = torch.nn.Conv2d(1, 2, 3).half()
      self.blocks = torch.nn.Sequential(Part(), Part())
      self.register_buffer("count", torch.tensor(3))
      self.logit_scale = torch.nn.Parameter(torch.ones([]) * 2.5)

    def forward(self, x):
      return self.blocks(x) * self.logit_scale

  torch.manual_seed(0)
  return torch.jit.script(Whole())


def write_all(torch, folder: pathlib.Path) -> None:
  values = tensors(torch)
  torch.save(values, folder / "zip.pt")
  torch.save(values, folder / "stream.pt", _use_new_zipfile_serialization=False)
  (folder / "bare.pkl").write_bytes(pickle.dumps(values))
  torch.save({"epoch": 3, "name": "run", "state_dict": values, "lr": [0.1, None]}, folder / "training.pt")
  script = module(torch)
  script.save(str(folder / "script.pt"))
  np.savez(folder / "script.npz", **{k: v.numpy() for k, v in script.state_dict().items()})


@pytest.mark.parametrize("name", ["zip.pt", "stream.pt", "bare.pkl", "training.pt"])
def test_every_container(torch, tmp_path, name):
  write_all(torch, tmp_path)
  found, wanted = torch_reader.state_dict(tmp_path / name), tensors(torch)
  assert list(found) == list(wanted)
  for key, tensor in wanted.items():
    assert str(found[key].dtype) == str(tensor.dtype).removeprefix("torch.")
    assert found[key].shape == tuple(tensor.shape)
    assert np.array_equal(found[key].astype(np.float64), tensor.detach().double().numpy())


def test_torchscript(torch, tmp_path):
  write_all(torch, tmp_path)
  found = torch_reader.state_dict(tmp_path / "script.pt")
  wanted = module(torch).state_dict()
  assert found.keys() == wanted.keys()
  assert all(np.array_equal(found[k], wanted[k].numpy()) and found[k].dtype == wanted[k].numpy().dtype for k in found)


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_reads_what_we_write(torch, tmp_path, mmap):
  write_all(torch, tmp_path)
  torch_writer.write(tmp_path / "ours.pt", torch_reader.state_dict(tmp_path / "zip.pt"))
  found = torch.load(tmp_path / "ours.pt", weights_only=True, mmap=mmap)
  for key, tensor in tensors(torch).items():
    assert torch.equal(found[key], tensor)
    assert found[key].dtype == tensor.dtype


def test_golden_files_are_what_torch_writes(torch, tmp_path, root):
  write_all(torch, tmp_path)
  golden = root / "tests/interop/golden"
  for name in ("zip.pt", "stream.pt", "bare.pkl", "training.pt", "script.pt"):
    old, new = torch_reader.state_dict(golden / name), torch_reader.state_dict(tmp_path / name)
    assert old.keys() == new.keys()
    assert all(np.array_equal(old[k], new[k]) for k in old), name


if __name__ == "__main__":
  import torch as torch_module

  write_all(torch_module, pathlib.Path(sys.argv[1]))
