"""ArrayRecord shards: those that prepare writes, foreign ones, and damage."""

import json

import numpy as np
import pytest

from vljax.data import sources
from vljax.data.sources import example


@pytest.fixture
def write_shard():
  module = pytest.importorskip("array_record.python.array_record_module")

  def write(path, records):
    writer = module.ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
      writer.write(record)
    writer.close()
    return path

  return write


def records(pictures):
  return [
    example.encode({"image": [data], "captions": [name.encode(), b"two"], "label": [n]})
    for n, (name, data) in enumerate(pictures.items())
  ]


def test_foreign_shards(tmp_path, pictures, write_shard):
  data = records(pictures)
  write_shard(tmp_path / "a.array_record-00000-of-00002", data[:4])
  write_shard(tmp_path / "a.array_record-00001-of-00002", data[4:])
  expected = {"key": "5", "image": pictures["photo_5.jpg"], "captions": ["photo_5.jpg", "two"], "label": 5}
  for path in (tmp_path, f"{tmp_path}/a.array_record-*", f"{tmp_path}/a.array_record-{{00000..00001}}-of-00002"):
    source = sources.open(f"array_record:{path}")
    assert len(source) == 10
    assert source[5] == expected


def test_missing_caption(tmp_path, pictures, write_shard):
  data = pictures["photo_0.png"]
  rows = [{"image": [data], "captions": [b"one"]}, {"image": [data], "captions": [b" "]}]
  write_shard(tmp_path / "a.array_record", [example.encode(row) for row in rows])
  source = sources.open(f"array_record:{tmp_path}")
  assert source[0]["captions"] == ["one"]
  for call in (source.__getitem__, source.row):
    with pytest.raises(ValueError, match=r"'1' has no caption: field 'captions' is absent or empty"):
      call(1)


def test_no_example(tmp_path, write_shard):
  write_shard(tmp_path / "a.array_record", [b"\xff" * 30])
  with pytest.raises(ValueError, match=r"30 bytes starting with .* are no tf.train.Example"):
    sources.open(f"array_record:{tmp_path}")


def test_cut_shard(tmp_path, write_shard):
  noise = np.random.default_rng(0).bytes(300_000)
  path = write_shard(tmp_path / "a.array_record", [example.encode({"image": [noise]}) for _ in range(10)])
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(ValueError, match=r"a.array_record' is cut off or no ArrayRecord file"):
    sources.open(f"array_record:{tmp_path}")


def test_damaged_record(tmp_path, write_shard):
  rng = np.random.default_rng(0)
  rows = [example.encode({"image": [rng.bytes(100_000)]}) for _ in range(6)]
  path = write_shard(tmp_path / "a.array_record", rows)
  data = bytearray(path.read_bytes())
  data[350_000:350_100] = bytes(100)
  path.write_bytes(data)
  source = sources.open(f"array_record:{tmp_path}")
  assert source[1]["key"] == "1"
  with pytest.raises(ValueError, match=r"record 3 is damaged"):
    source[3]


def test_missing_shard_of_a_manifest(tmp_path, pictures, write_shard):
  write_shard(tmp_path / "a.array_record", records(pictures))
  (tmp_path / "vljax.json").write_text(json.dumps({"count": 12}))
  with pytest.raises(ValueError, match="holds 10 examples") as info:
    sources.open(f"array_record:{tmp_path}")
  name = f"array_record:{tmp_path}"
  assert str(info.value) == f"{name} holds 10 examples; {str(tmp_path / 'vljax.json')!r} says 12"


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no file fits '.*/\*\.array_record\*'"):
    sources.open(f"array_record:{tmp_path}")
