"""Shards that both readers open without TensorFlow; runs that were stopped; names and rows that do not fit."""

import datetime
import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from vljax import prepare
from vljax.data import sources

pytest.importorskip("tensorflow_datasets")

READ_BACK = """
import json, pickle, sys
from vljax.data import sources
first, second = (sources.open(uri) for uri in sys.argv[1:])
second = pickle.loads(pickle.dumps(second))
assert len(first) == len(second) == 10
for a, b in zip(first, second):
  assert {**a, "odd": 0} == {**b, "odd": 0}, (a, b)
assert first.classes == second.classes and first.credit == second.credit
import tensorflow_datasets as tfds
name, _, folder = sys.argv[2].removeprefix("tfds:").partition("?data_dir=")
decoded = tfds.data_source(name, data_dir=folder, split="train")[3]
assert decoded["image"].shape == (8, 9, 3), decoded["image"].shape
assert "tensorflow" not in sys.modules
print(json.dumps([len(first), first[3]["key"], decoded["captions"]], default=bytes.decode))
"""


@pytest.fixture
def table(tmp_path):
  """A jsonl source of ten pictures, with fields of every type, one of them in some rows only."""
  rng = np.random.default_rng(0)
  rows = []
  for number in range(10):
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (8, 9, 3), np.uint8)).save(buffer, "PNG")
    (tmp_path / f"{number}.png").write_bytes(buffer.getvalue())
    row = {
      "image": f"{number}.png",
      "captions": [f"photo {number}"] * (1 + number % 3),
      "width": 9,
      "kind": "ab"[number % 2],
    }
    rows.append(row | ({"odd": {"is": 0.1}} if number % 2 else {}))
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_round_trip(table, tmp_path):
  uri = f"jsonl:{table}?class=kind"
  result = prepare.prepare(uri, tmp_path / "data/my_pairs", shards=3)
  assert (result.count, result.shards, result.broken, result.done) == (10, 3, 0, False)
  original, again = sources.open(uri), sources.open(result.uris[0])
  assert list(again) == list(original)
  assert again.classes == ("a", "b")
  assert list(sources.open(f"{result.uris[0]}?split=val&holdout=3"))


@pytest.mark.slow
def test_both_readers_without_tensorflow(table, tmp_path):
  result = prepare.prepare(f"jsonl:{table}?class=kind", tmp_path / "data/my_pairs", shards=2)
  call = [sys.executable, "-c", READ_BACK, *result.uris]
  out = subprocess.run(call, capture_output=True, text=True, check=False)
  assert out.returncode == 0, out.stderr
  assert json.loads(out.stdout) == [10, "3.png", ["photo 3"]]


def test_arrays_become_png(tmp_path):
  result = prepare.prepare("synthetic:pairs?n=6&size=16", tmp_path / "shapes")
  for before, after in zip(sources.open("synthetic:pairs?n=6&size=16"), sources.open(result.uris[0]), strict=True):
    assert (np.asarray(Image.open(io.BytesIO(after.pop("image")))) == before.pop("image")).all()
    assert after == before


def test_group_field_and_credit_stay(tmp_path):
  pytest.importorskip("easy_vqa")
  small = sources.open("easy_vqa:?part=test&split=val&holdout=3")
  result = prepare.prepare("easy_vqa:?part=test&split=val&holdout=3", tmp_path / "questions")
  again = sources.open(result.uris[0])
  assert (again.credit, again.group_field, len(again)) == (small.credit, "image_id", len(small))
  assert list(again) == list(small)


@pytest.mark.slow
def test_workers_write_the_same(tmp_path):
  uri = "synthetic:pairs?n=12&size=8"
  one = prepare.prepare(uri, tmp_path / "one/set", shards=3)
  two = prepare.prepare(uri, tmp_path / "two/set", shards=3, workers=2)
  for path in one.folder.glob("*.array_record*"):
    assert path.read_bytes() == (two.folder / path.name).read_bytes()


def test_complete_folder_is_left_alone(tmp_path):
  uri = "synthetic:pairs?n=6&size=8"
  first = prepare.prepare(uri, tmp_path / "shapes")
  times = {path.name: path.stat().mtime for path in first.folder.iterdir()}
  second = prepare.prepare(uri, tmp_path / "shapes")
  assert second.done
  assert (second.count, second.folder) == (first.count, first.folder)
  assert {path.name: path.stat().mtime for path in first.folder.iterdir()} == times
  with pytest.raises(ValueError, match="was prepared from") as info:
    prepare.prepare("synthetic:pairs?n=7", tmp_path / "shapes")
  found = f"{str(first.folder)!r} was prepared from {uri!r}, not from 'synthetic:pairs?n=7'"
  assert str(info.value) == f"{found}; choose another folder"


def test_part_is_opened(tmp_path):
  uri = "synthetic:pairs?n=6&size=8"
  first = prepare.prepare(uri, tmp_path / "shapes", part="val")
  assert len(sources.open(first.uris[1])) == 6
  assert prepare.prepare(uri, tmp_path / "shapes").uris == first.uris


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
  uri, written = "synthetic:pairs?n=9&size=8", []
  whole = prepare.write_shard

  def stop_at_third(source, plan, number, folder):
    if number == 2 and len(written) == 2:
      raise KeyboardInterrupt
    written.append(number)
    return whole(source, plan, number, folder)

  monkeypatch.setattr(prepare, "write_shard", stop_at_third)
  with pytest.raises(KeyboardInterrupt):
    prepare.prepare(uri, tmp_path / "shapes", shards=3)
  assert not (tmp_path / "shapes/1.0.0").exists()
  partial = tmp_path / "shapes/.1.0.0.partial"
  (partial / ".shapes-train.array_record-00002-of-00003").write_bytes(b"half a shard")
  first = partial / "shapes-train.array_record-00000-of-00003"
  before = first.stat().st_mtime_ns
  result = prepare.prepare(uri, tmp_path / "shapes", shards=3)
  assert (tmp_path / "shapes/1.0.0" / first.name).stat().st_mtime_ns == before
  assert sorted(path.name for path in (tmp_path / "shapes").iterdir()) == ["1.0.0"]
  assert [e["key"] for e in sources.open(result.uris[0])] == [f"0-{n}" for n in range(9)]


def test_broken_rows_are_left_out_and_counted(table, tmp_path):
  (tmp_path / "4.png").write_bytes(b"no picture")
  (tmp_path / "7.png").unlink()
  uri = f"jsonl:{table}"
  with pytest.raises(ValueError, match="cannot be read") as info:
    prepare.prepare(uri, tmp_path / "data/strict")
  expected = f"2 of 10 rows of {uri!r} cannot be read (see the log); at most 1.00% may be"
  assert str(info.value) == expected
  result = prepare.prepare(uri, tmp_path / "data/loose", max_broken=0.2)
  assert (result.count, result.broken) == (8, 2)
  assert len(sources.open(result.uris[0])) == 8


@pytest.mark.parametrize("name", ["My-Pairs", "1pairs", "päärs"])
def test_illegal_name(tmp_path, name):
  with pytest.raises(ValueError, match="names the data set") as info:
    prepare.prepare("synthetic:pairs", tmp_path / name)
  path = str(tmp_path / name)
  assert str(info.value) == f"{path!r}: its last part names the data set; legal: a-z, 0-9 and _, a letter first"


def test_illegal_shards(tmp_path):
  with pytest.raises(ValueError, match="shards = 8; legal: 1 to 5, the number of examples"):
    prepare.prepare("synthetic:pairs?n=5", tmp_path / "shapes", shards=8)


def test_foreign_folder(tmp_path):
  (tmp_path / "shapes/1.0.0").mkdir(parents=True)
  with pytest.raises(ValueError, match="exists but was not written by prepare: it has no vljax.json"):
    prepare.prepare("synthetic:pairs?n=5", tmp_path / "shapes")


def test_members_that_shards_cannot_hold(tmp_path):
  buffer = io.BytesIO()
  Image.new("RGB", (8, 9)).save(buffer, "PNG")
  with tarfile.open(tmp_path / "sounds.tar", "w") as tar:
    for name, data in {"a.png": buffer.getvalue(), "a.txt": b"a bell", "a.audio.wav": b"RIFF"}.items():
      member = tarfile.TarInfo(name)
      member.size = len(data)
      tar.addfile(member, io.BytesIO(data))
  uri = f"webdataset:{tmp_path}/sounds.tar?also=audio.wav"
  with pytest.raises(ValueError, match="shards cannot hold") as info:
    prepare.prepare(uri, tmp_path / "data/sounds")
  legal = "legal: pictures and what is in rows: key, captions"
  assert str(info.value) == f"{uri!r}: shards cannot hold audio; {legal}"


@pytest.mark.parametrize("value", [datetime.datetime(2024, 1, 2), {"bytes": b"second", "path": None}])
def test_values_that_shards_cannot_hold(tmp_path, value):
  pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
  rows = [{"image": {"bytes": b"first"}, "id": key, "extra": extra} for key, extra in (("a", None), ("b", value))]
  parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "table.parquet")
  kind = "datetime" if isinstance(value, datetime.datetime) else "bytes"
  found = f"'b': field 'extra': Object of type {kind} is not JSON serializable; legal: texts, numbers"
  with pytest.raises(ValueError, match=found):
    prepare.prepare(f"hf:{tmp_path}/table.parquet", tmp_path / "data/table")


def test_pages(table, tmp_path):
  pictures = [{"image": f"{number}.png", "alt": f"picture {number}"} for number in range(3)]
  rows = [{"doc": "a", "items": ["x", *pictures[:2], "y"]}, {"doc": "b", "items": [pictures[2], "z"]}]
  pages = tmp_path / "pages.jsonl"
  pages.write_text("".join(json.dumps(row) + "\n" for row in rows))
  uri = f"interleaved:{pages}?images=."
  result = prepare.prepare(uri, tmp_path / "data/my_pages")
  original, again = sources.open(uri), sources.open(result.uris[0])
  assert result.count == 2
  assert [again[i] for i in range(2)] == [original[i] for i in range(2)]
  assert [again.row(i) for i in range(2)] == [original.row(i) for i in range(2)]
  stored = sources.open(result.uris[1])
  assert json.loads(stored.row(0)["items"]) == ["x", 0, 1, "y"]
