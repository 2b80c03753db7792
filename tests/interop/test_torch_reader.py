"""Torch's files without torch: the containers, what is refused, and what broken files do."""

import collections
import encodings
import pickle
import random
import sys
import time
import zipfile

import ml_dtypes
import numpy as np
import pytest

from vljax.interop import torch_reader, torch_writer

PLAIN = ("zip.pt", "stream.pt", "bare.pkl", "training.pt")
FORBIDDEN = (
  "os.system",
  "os.exec",
  "os.posix_spawn",
  "subprocess.Popen",
  "pickle.find_class",
  "exec",
  "socket.connect",
)


@pytest.fixture
def golden(root):
  return root / "tests/interop/golden"


class Watch:
  """Which forbidden things happened while it was on; an audit hook stays for good, so there is one."""

  def __init__(self):
    self.on, self.seen = False, []
    sys.addaudithook(self.hook)

  def hook(self, event, args):
    if self.on and event in FORBIDDEN and not self.is_codec(event, args):
      self.seen.append((event, args))

  def is_codec(self, event, args) -> bool:
    """Whether the standard library imports one of its codecs, on first use."""
    return event == "exec" and getattr(args[0], "co_filename", "").startswith(encodings.__path__[0])

  def __enter__(self):
    self.on, self.seen = True, []
    return self.seen

  def __exit__(self, *_):
    self.on = False


@pytest.fixture(scope="session")
def watch():
  return Watch()


class Evil:
  """A pickle of this runs a command in whoever unpickles it."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    import os

    return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("name", PLAIN)
def test_values(golden, name):
  found = torch_reader.state_dict(golden / name)
  base = np.arange(24, dtype=np.float32).reshape(4, 6) / 8
  assert np.array_equal(found["whole"], base)
  assert np.array_equal(found["transposed"], base.T)
  assert np.array_equal(found["strided"], base[1:, ::2])
  assert found["half"].dtype == np.float16
  assert str(found["bfloat16"].dtype) == "bfloat16"
  assert found["bfloat16"].astype(np.float32).tolist() == [0, 0.25, 0.5, 0.75, 1]
  assert found["byte"].tolist() == [250, 251, 252, 253, 254, 255]
  assert found["bool"].tolist() == [True, False]
  assert found["scalar"] == 2.5
  assert found["scalar"].shape == ()
  assert found["parameter"].tolist() == [[0.25, 0.25], [0.25, 0.25]]
  assert found["empty"].shape == (0, 3)
  assert np.array_equal(found["expanded"], np.ones((5, 4)))
  assert all(x.flags.c_contiguous and x.flags.owndata for x in found.values())


def test_torchscript_modules_become_names(golden):
  found = torch_reader.state_dict(golden / "script.pt")
  wanted = dict(np.load(golden / "script.npz"))
  assert sorted(found) == sorted(wanted)
  assert "blocks.1.ln.weight" in found
  assert all(np.array_equal(found[k], wanted[k]) and found[k].dtype == wanted[k].dtype for k in wanted)


def test_the_rest_of_a_training_checkpoint_stays_unread(golden):
  content = torch_reader.read(golden / "training.pt")
  assert content["epoch"] == 3
  assert content["lr"] == [0.1, None]
  assert isinstance(content["state_dict"]["whole"], torch_reader.Tensor)


def test_big_endian(tmp_path):
  torch_writer.write(tmp_path / "little.pt", {"x": np.arange(3, dtype=np.float32)})
  with zipfile.ZipFile(tmp_path / "little.pt") as old, zipfile.ZipFile(tmp_path / "big.pt", "w") as new:
    for name in old.namelist():
      data = {"archive/byteorder": b"big", "archive/data/0": np.arange(3, dtype=">f4").tobytes()}
      new.writestr(name, data.get(name, old.read(name)))
  assert torch_reader.state_dict(tmp_path / "big.pt")["x"].tolist() == [0, 1, 2]


def patched(folder, array, *changes):
  """A file of one array `x`, in whose pickle bytes were replaced."""
  torch_writer.write(folder / "plain.pt", {"x": array})
  with zipfile.ZipFile(folder / "plain.pt") as old, zipfile.ZipFile(folder / "x.pt", "w") as new:
    for name in old.namelist():
      data = old.read(name)
      for found, wanted in changes if name.endswith("data.pkl") else ():
        assert found in data
        data = data.replace(found, wanted)
      new.writestr(name, data)
  return folder / "x.pt"


@pytest.mark.parametrize(
  ("key", "array", "wanted"),
  [
    (b"neg", np.arange(3, dtype=np.float32), np.array([0, -1, -2], np.float32)),
    (b"neg", np.array(2.5, ml_dtypes.bfloat16), np.array(-2.5, ml_dtypes.bfloat16)),
    (b"conj", np.array([1 + 2j], np.complex64), np.array([1 - 2j], np.complex64)),
  ],
)
def test_what_torch_noted_instead_of_doing_it(tmp_path, key, array, wanted):
  noted = b")R}X%c\0\0\0%b\x88stR" % (len(key), key)
  found = torch_reader.state_dict(patched(tmp_path, array, (b")RtR", noted)))["x"]
  assert found.dtype == wanted.dtype
  np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
  ("array", "key", "message"),
  [
    (np.ones(2, bool), b"neg", "a tensor of bool has the metadata 'neg'"),
    (np.ones(2, np.float32), b"conj", "a tensor of float32 has the metadata 'conj'"),
    (np.ones(2, np.float32), b"zero", r"a tensor's metadata are \['zero'\]; legal: a dict with conj, neg"),
  ],
)
def test_metadata_that_no_tensor_has(tmp_path, array, key, message):
  file = patched(tmp_path, array, (b")RtR", b")R}X%c\0\0\0%b\x88stR" % (len(key), key)))
  with pytest.raises(ValueError, match=f"x.pt: {message}"):
    torch_reader.state_dict(file)


@pytest.mark.parametrize("name", ["float8_e5m2", "float8_e4m3fn"])
def test_floats_of_8_bits(tmp_path, name):
  wanted = np.arange(4, dtype=getattr(ml_dtypes, name))
  version = (b"_rebuild_tensor_v2", b"_rebuild_tensor_v3")
  file = patched(tmp_path, wanted.view(np.uint8), version, (b")RtR", b")Rctorch\n%b\ntR" % name.encode()))
  found = torch_reader.state_dict(file)["x"]
  assert found.dtype == wanted.dtype
  assert found.astype(np.float32).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("container", ["pickle", "zip", "stream", "nested"])
def test_a_pickle_that_tries_to_run_code(tmp_path, container, watch):
  trace, file = tmp_path / "was_here", tmp_path / "evil.pt"
  evil = pickle.dumps({"weight": Evil(trace)}, 2)
  if container == "pickle":
    file.write_bytes(evil)
  elif container == "zip":
    with zipfile.ZipFile(file, "w") as archive:
      archive.writestr("archive/data.pkl", evil)
  elif container == "stream":
    file.write_bytes(pickle.dumps(torch_reader.MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + evil)
  else:
    inner = pickle.dumps(torch_reader.MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + evil
    file.write_bytes(
      b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + len(inner).to_bytes(4, "little") + inner + b"\x85R."
    )
  with watch as seen, pytest.raises(ValueError, match="refused") as raised:
    torch_reader.state_dict(file)
  assert str(raised.value) == (
    f"{file}: refused: the pickle names the class 'posix.system', and only tensors and plain containers are read"
  )
  assert not seen
  assert not trace.exists()
  pickle.loads(evil)
  assert trace.exists()


@pytest.mark.parametrize(
  ("value", "name"),
  [
    (print, "builtins.print"),
    (collections.Counter(), "collections.Counter"),
    (np.ones(1), "numpy._core.multiarray._reconstruct"),
    (complex(1, 2), "builtins.complex"),
  ],
)
def test_every_other_class_is_refused_by_name(tmp_path, value, name):
  (tmp_path / "x.pt").write_bytes(pickle.dumps(value, 4))
  with pytest.raises(ValueError, match=f"x.pt: refused: the pickle names the class '{name}'"):
    torch_reader.read(tmp_path / "x.pt")


def test_torchscript_classes_outside_an_archive_are_refused(tmp_path):
  (tmp_path / "x.pt").write_bytes(b"\x80\x02c__torch__.clip.model\nMultimodal\n)\x81.")
  with pytest.raises(ValueError, match="names the class '__torch__.clip.model.Multimodal'"):
    torch_reader.read(tmp_path / "x.pt")


def test_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"none\.pt does not exist"):
    torch_reader.state_dict(tmp_path / "none.pt")


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "x.pt: "),
    (b"not a checkpoint", "x.pt: neither a zip archive nor a pickle: it begins with b'not a ch'"),
    (pickle.dumps({"a": 1}, 2), "x.pt: holds a dict without tensors by name, not a state dict"),
    (pickle.dumps([1], 2), "x.pt: holds a list without tensors by name, not a state dict"),
    (b"\x80\x02]q\x00h\x05.", "x.pt: the pickle asks for the memo 5, which is not there"),
    (b"\x80\x02\x82\x01.", "x.pt: the pickle uses the opcode EXT1, which no tensor needs"),
  ],
)
def test_other_files(tmp_path, content, message):
  (tmp_path / "x.pt").write_bytes(content)
  with pytest.raises(ValueError, match="x.pt") as raised:
    torch_reader.state_dict(tmp_path / "x.pt")
  assert message in str(raised.value)


@pytest.mark.parametrize("name", ["zip.pt", "stream.pt", "bare.pkl", "script.pt"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_files_name_themselves(golden, tmp_path, name, share):
  data = (golden / name).read_bytes()
  (tmp_path / name).write_bytes(data[: int(len(data) * share)])
  with pytest.raises(ValueError, match=name):
    torch_reader.state_dict(tmp_path / name)


def test_a_flipped_bit_in_the_data_is_found(golden, tmp_path):
  data = bytearray((golden / "zip.pt").read_bytes())
  at = bytes(data).index(np.arange(24, dtype=np.float32).__truediv__(8).tobytes())
  data[at + 40] ^= 1
  (tmp_path / "x.pt").write_bytes(data)
  with pytest.raises(ValueError, match="damaged: its checksum does not match"):
    torch_reader.state_dict(tmp_path / "x.pt")


def test_tensors_stay_inside_their_storage(golden, tmp_path):
  data = (golden / "stream.pt").read_bytes()
  file = _written(tmp_path, data.replace(b"K\x04K\x06\x86", b"K\x04K\x07\x86"))
  with pytest.raises(ValueError, match="reaches element"):
    torch_reader.state_dict(file)
  huge = b"J" + (2**30).to_bytes(4, "little")
  file = _written(tmp_path, data.replace(b"K\x05K\x04\x86", huge + b"K\x04\x86"))
  with pytest.raises(ValueError, match="far larger than its storage"):
    torch_reader.state_dict(file)


def test_a_module_that_names_its_parts_exponentially_often(tmp_path):
  out = b"\x80\x02c__torch__\nM\n)\x81q\x000"
  for i in range(1, 60):
    parts = b"}(X\x01\x00\x00\x00ah%cX\x01\x00\x00\x00bh%cu" % (i - 1, i - 1)
    out += b"c__torch__\nM\n)\x81" + parts + b"bq%c0" % i
  with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
    archive.writestr("x/data.pkl", out + b"h%c." % 59)
    archive.writestr("x/code/m.py", "")
  with pytest.raises(ValueError, match="more than 20000 parts"):
    torch_reader.state_dict(tmp_path / "x.pt")


def _written(folder, data: bytes):
  (folder / "x.pt").write_bytes(data)
  return folder / "x.pt"


def mutate(data: bytes, rng: random.Random) -> bytes:
  """A few bytes changed, dropped, doubled or cut off, mostly where the pickle is."""
  data = bytearray(data)
  for _ in range(rng.randint(1, 6)):
    if not data:
      break
    at = min(int(rng.expovariate(1 / 400)), len(data) - 1) if rng.random() < 0.7 else rng.randrange(len(data))
    kind = rng.randrange(6)
    if kind <= 2:
      data[at] = rng.randrange(256)
    elif kind == 3:
      data[at : at + rng.randint(1, 9)] = b""
    elif kind == 4:
      data[at:at] = data[at : at + rng.randint(1, 60)]
    else:
      data = data[: max(1, at)] if rng.random() < 0.2 else data
  return bytes(data) or b"\x80"


def _error(file) -> str | None:
  try:
    torch_reader.state_dict(file)
  except ValueError as error:
    return str(error)
  return None


def fuzz(golden, folder, watch, count: int) -> collections.Counter:
  rng = random.Random(count)
  seeds = [(golden / name).read_bytes() for name in (*PLAIN, "script.pt")]
  results = collections.Counter()
  for _ in range(count):
    file = _written(folder, mutate(rng.choice(seeds), rng))
    start = time.monotonic()
    with watch as seen:
      message = _error(file)
    assert message is None or str(file) in message
    assert not seen
    assert time.monotonic() - start < 5
    results["read" if message is None else "refused"] += 1
  return results


def test_mutated_files(golden, tmp_path, watch):
  results = fuzz(golden, tmp_path, watch, 200)
  assert results["refused"] > 50


@pytest.mark.long
def test_many_mutated_files(golden, tmp_path, watch):
  results = fuzz(golden, tmp_path, watch, 10_000)
  assert results["refused"] > 5_000
