"""Files with changed bytes: each opens, or says what is wrong; nothing else is ever raised."""

import numpy as np
import pytest

from vljax.data import sources

EXPECTED = (ValueError, OSError, KeyError)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
  """The bytes with some changed, cut off, or doubled."""
  changed = bytearray(data)
  for at in rng.integers(0, len(changed), rng.integers(1, 9)):
    changed[at] = rng.integers(0, 256)
  kind = rng.integers(0, 4)
  if kind == 0:
    return bytes(changed[: rng.integers(0, len(changed))])
  if kind == 1:
    start, stop = sorted(rng.integers(0, len(changed), 2))
    return bytes(changed[:start] + changed[stop:])
  return bytes(changed)


def read_all(uri: str) -> None:
  """Reads every example; what may be wrong with a file or an example is passed over."""
  try:
    source = sources.open(uri)
  except EXPECTED:
    return
  for index in range(len(source)):
    try:
      source[index]
    except EXPECTED:
      continue


def check(path, uri, count):
  rng = np.random.default_rng(0)
  data = path.read_bytes()
  for _ in range(count):
    path.write_bytes(mutate(data, rng))
    for index in path.parent.glob("*.index.npz"):
      index.unlink()
    read_all(uri)


@pytest.fixture(params=[40, pytest.param(1500, marks=pytest.mark.long)])
def count(request):
  return request.param


def test_tar(pairs, count):
  check(pairs / "images.tar", f"pairs:{pairs}", count)


def test_table(pairs, count):
  check(pairs / "captions.jsonl", f"pairs:{pairs}", count)


def test_json_lines(pairs, count):
  check(pairs / "captions.jsonl", f"jsonl:{pairs}/captions.jsonl", count)


def test_webdataset(tmp_path, pictures, write_tar, count):
  members = {}
  for number, (name, data) in enumerate(pictures.items()):
    members |= {
      name: data,
      f"photo_{number}.txt": b"text",
      f"photo_{number}.json": b'{"a": 1}',
      f"photo_{number}.cls": b"3",
    }
  path = write_tar(tmp_path / "s.tar", members)
  check(path, f"webdataset:{path}", count)


def test_index(pairs, count):
  sources.open(f"pairs:{pairs}")
  path = pairs / "images.tar.index.npz"
  data, rng = path.read_bytes(), np.random.default_rng(0)
  for _ in range(count):
    path.write_bytes(mutate(data, rng))
    read_all(f"pairs:{pairs}")


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_tables_of_arrow(tmp_path, pictures, suffix, count):
  pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
  rows = [{"image": {"bytes": data, "path": name}, "text": name} for name, data in pictures.items()]
  table = pa.Table.from_pylist(rows)
  path = tmp_path / f"t.{suffix}"
  if suffix == "parquet":
    pq.write_table(table, path, row_group_size=4)
  else:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
      writer.write_table(table)
  check(path, f"hf:{path}", count)


def test_array_record(tmp_path, pictures, count):
  from array_record.python import array_record_module

  from vljax.data.sources import example

  path = tmp_path / "a.array_record"
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
  for name, data in pictures.items():
    writer.write(example.encode({"image": [data], "captions": [name.encode()]}))
  writer.close()
  check(path, f"array_record:{path}", count)
