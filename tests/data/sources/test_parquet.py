"""Parquet and arrow files in the layout of Hugging Face datasets."""

import json
import pickle

import pytest

from vljax.data import sources

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def table(pictures):
  rows = [
    {"image": {"bytes": data, "path": name}, "text": f"text {n}", "label": n % 2}
    for n, (name, data) in enumerate(pictures.items())
  ]
  features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
  schema = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
  return pa.Table.from_pylist(rows).replace_schema_metadata(schema)


@pytest.fixture
def folder(tmp_path, table):
  pq.write_table(table.slice(0, 6), tmp_path / "train-00000-of-00002.parquet", row_group_size=4)
  pq.write_table(table.slice(6), tmp_path / "train-00001-of-00002.parquet", row_group_size=4)
  return tmp_path


def test_rows(folder, pictures):
  source = sources.open(f"hf:{folder}")
  assert [example["image"] for example in source] == list(pictures.values())
  expected = {"key": "7", "text": "text 7", "captions": ["text 7"], "label": 1, "class": "dog"}
  assert source.row(7) == expected
  assert source.classes == ("cat", "dog")
  again = pickle.loads(pickle.dumps(source))
  assert again[9]["image"] == source[9]["image"]


def test_arrow_stream_and_file(tmp_path, table, pictures):
  for kind in ("new_stream", "new_file"):
    with pa.OSFile(str(tmp_path / "data.arrow"), "wb") as file, getattr(pa.ipc, kind)(file, table.schema) as writer:
      writer.write_table(table, max_chunksize=3)
    source = pickle.loads(pickle.dumps(sources.open(f"hf:{tmp_path}/data.arrow")))
    assert [example["image"] for example in source] == list(pictures.values())


def test_path_without_bytes(tmp_path, pictures):
  (tmp_path / "photo_0.png").write_bytes(pictures["photo_0.png"])
  kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
  rows = pa.array([{"bytes": None, "path": "photo_0.png"}, {"bytes": None, "path": "gone.png"}], kind)
  pq.write_table(pa.table({"image": rows}), tmp_path / "t.parquet")
  source = sources.open(f"hf:{tmp_path}/t.parquet")
  assert source[0]["image"] == pictures["photo_0.png"]
  with pytest.raises(FileNotFoundError, match=r"row 1: image '.*gone.png' does not exist"):
    source[1]


def test_truncated(folder):
  path = folder / "train-00001-of-00002.parquet"
  path.write_bytes(path.read_bytes()[:300])
  with pytest.raises(ValueError, match=r"train-00001-of-00002.parquet' \(300 bytes\) is cut off or no parquet file: "):
    sources.open(f"hf:{folder}")


def test_truncated_arrow(tmp_path, table):
  with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
    writer.write_table(table)
  (tmp_path / "t.arrow").write_bytes((tmp_path / "t.arrow").read_bytes()[:900])
  with pytest.raises(ValueError, match=r"t.arrow' is cut off or no arrow file: "):
    sources.open(f"hf:{tmp_path}/t.arrow")


def test_empty_folder(tmp_path):
  with pytest.raises(FileNotFoundError) as info:
    sources.open(f"hf:{tmp_path}")
  assert str(info.value) == f"folder {str(tmp_path)!r} holds no .parquet and no .arrow file, nor do its subfolders"


def test_unknown_column(folder):
  with pytest.raises(ValueError, match="unknown image column 'imag'; did you mean 'image'"):
    sources.open(f"hf:{folder}?image=imag")


def test_missing_package(monkeypatch, folder):
  monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
  with pytest.raises(ImportError) as info:
    sources.open(f"hf:{folder}")
  assert str(info.value) == "source hf: needs the package pyarrow: pip install 'vljax[data]'"
