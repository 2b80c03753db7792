"""WebDataset shards: grouping, captions, patterns of shards, damage."""

import io
import json
import pickle

import numpy as np
import pytest

from vljax.data import sources
from vljax.data.sources import globs


@pytest.fixture
def shards(tmp_path, pictures, write_tar):
  names = list(pictures)
  for shard in range(2):
    members = {}
    for number in range(shard * 5, shard * 5 + 5):
      members[f"./{number:04d}.{names[number].rpartition('.')[2]}"] = pictures[names[number]]
      members[f"./{number:04d}.txt"] = f"text {number}".encode()
      members[f"./{number:04d}.json"] = json.dumps({"caption": f"caption {number}", "width": 9}).encode()
      members[f"./{number:04d}.cls"] = str(number % 3).encode()
    write_tar(tmp_path / f"set-{shard:03d}.tar", members)
  return tmp_path


def test_examples(shards, pictures):
  source = sources.open(f"webdataset:{shards}/set-{{000..001}}.tar")
  assert len(source) == 10
  expected = {"key": "0007", "captions": ["text 7"], "caption": "caption 7", "width": 9, "label": 1}
  assert source[7] == expected | {"image": pictures["photo_7.jpg"]}
  assert pickle.loads(pickle.dumps(source))[7] == source[7]


def test_caption_field_of_json(shards):
  assert sources.open(f"webdataset:{shards}/*.tar?caption=caption")[7]["captions"] == ["caption 7"]


def test_missing_caption_and_picture(tmp_path, pictures, write_tar):
  data = pictures["photo_0.png"]
  write_tar(tmp_path / "s.tar", {"a.png": data, "a.txt": b"text", "b.png": data, "c.txt": b"no picture"})
  source = sources.open(f"webdataset:{tmp_path}/s.tar")
  assert (len(source), source.missing) == (2, 1)
  with pytest.raises(ValueError, match="has no caption") as info:
    source[1]
  assert str(info.value) == f"webdataset:{tmp_path}/s.tar: 'b' has no caption: its .txt is absent or empty"


def test_texts_made_on_windows(tmp_path, pictures, write_tar):
  data = pictures["photo_0.png"]
  texts = {"a.txt": b"\xef\xbb\xbfa red car\r\n", "b.txt": b"K\xe4tzchen"}
  source = sources.open(f"webdataset:{write_tar(tmp_path / 's.tar', {'a.png': data, 'b.png': data, **texts})}")
  assert source[0]["captions"] == ["a red car"]
  with pytest.raises(ValueError, match=r"s.tar: b.txt holds b'K\\xe4tzchen'; legal: text in UTF-8"):
    source[1]


def test_a_tar_of_macos(tmp_path, pictures, write_tar):
  data = pictures["photo_0.png"]
  members = {"./._a.png": b"attributes", "./a.png": data, "d/._b.png": b"attributes", "d/b.png": data, "d/b.txt": b"b"}
  source = sources.open(f"webdataset:{write_tar(tmp_path / 's.tar', members)}")
  assert (source.keys, source.missing) == (["a", "d/b"], 0)
  assert source[1]["captions"] == ["b"]
  with pytest.raises(ValueError, match="'a' has no caption: its .txt is absent or empty"):
    source[0]


def test_damaged_fields(tmp_path, pictures, write_tar):
  members = {"a.png": pictures["photo_0.png"], "a.json": b"[1]", "b.png": pictures["photo_0.png"], "b.cls": b"cat"}
  write_tar(tmp_path / "s.tar", {"0.png": b"x", **members})
  source = sources.open(f"webdataset:{tmp_path}/s.tar")
  for index, part in ((1, r"a.json holds b'\[1\]'; legal: an object"), (2, "b.cls holds b'cat'; legal: a number")):
    with pytest.raises(ValueError, match=part):
      source[index]


def test_no_picture(tmp_path, write_tar):
  write_tar(tmp_path / "s.tar", {"a.txt": b"text"})
  with pytest.raises(ValueError, match="no key of 1 shards has a picture"):
    sources.open(f"webdataset:{tmp_path}/s.tar")


def test_missing_shard(shards):
  with pytest.raises(FileNotFoundError) as info:
    sources.open(f"webdataset:{shards}/set-{{000..002}}.tar")
  pattern = f"{shards}/set-{{000..002}}.tar"
  assert str(info.value) == f"no file fits '{shards}/set-002.tar' (of the pattern {pattern!r})"


def test_cut_shard(shards):
  path = shards / "set-001.tar"
  path.write_bytes(path.read_bytes()[:3000])
  with pytest.raises(ValueError, match=r"set-001.tar' is cut off or damaged at byte \d+ of 3000: \d members"):
    sources.open(f"webdataset:{shards}/*.tar")


def test_braces():
  assert globs.braces("a{08..11}") == ["a08", "a09", "a10", "a11"]
  assert globs.braces("{a,b}{0..1}") == ["a0", "a1", "b0", "b1"]
  with pytest.raises(ValueError, match=r"\{9\.\.2\} is neither a range"):
    globs.braces("x{9..2}")


def test_further_members(tmp_path, pictures, write_tar):
  buffer = io.BytesIO()
  np.save(buffer, np.arange(6.0))
  deep, seen = pictures["photo_2.png"], pictures["photo_0.png"]
  write_tar(tmp_path / "s.tar", {"a.depth.png": deep, "a.png": seen, "a.imu.npy": buffer.getvalue(), "b.png": seen})
  source = sources.open(f"webdataset:{tmp_path}/s.tar?also=depth.png,imu.npy")
  example = source[0]
  assert (example["image"], example["depth"]) == (seen, deep)
  np.testing.assert_array_equal(example["imu"], np.arange(6.0))
  with pytest.raises(ValueError, match=r"'b' has no member \.depth\.png"):
    source[1]


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY\x01", b"text"])
def test_a_damaged_array(tmp_path, pictures, write_tar, data):
  write_tar(tmp_path / "s.tar", {"a.png": pictures["photo_0.png"], "a.imu.npy": data})
  with pytest.raises(ValueError, match=r"s.tar: a\.imu\.npy holds no array: "):
    sources.open(f"webdataset:{tmp_path}/s.tar?also=imu.npy")[0]
