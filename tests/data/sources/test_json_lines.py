"""Rows with a path or base64 for a picture."""

import base64

import pytest

from vljax.data import sources


@pytest.fixture
def table(tmp_path, pictures, write_rows):
  (tmp_path / "deep").mkdir()
  rows = []
  for number, (name, data) in enumerate(pictures.items()):
    if number % 2:
      (tmp_path / "deep" / name).write_bytes(data)
    code = base64.b64encode(data).decode()
    inline = code if number % 4 else f"data:image/png;base64,{code}"
    rows.append(
      {"image": f"deep/{name}" if number % 2 else inline, "text": f"text {number}", "kind": "ab"[number % 2]}
    )
  return write_rows(tmp_path / "rows.jsonl", rows)


def test_paths_and_base64(table, pictures):
  source = sources.open(f"jsonl:{table}?class=kind")
  assert [example["image"] for example in source] == list(pictures.values())
  assert source[3]["key"] == "deep/photo_3.jpg"
  assert source[2]["key"] == "2"
  assert (source[2]["captions"], source[2]["class"], source[3]["label"]) == (["text 2"], "a", 1)


def test_numbered_classes_keep_their_numbers(tmp_path, write_rows):
  rows = [{"image": "x.jpg", "label": n} for n in (11, *range(11))]
  source = sources.open(f"jsonl:{write_rows(tmp_path / 't.jsonl', rows)}?class=label")
  assert [source.row(i)["label"] for i in range(12)] == [11, *range(11)]
  path = write_rows(tmp_path / "t.jsonl", [*rows, {"image": "y.jpg", "label": None}])
  with pytest.raises(ValueError, match=r"t.jsonl: row 12: class field 'label' holds None; legal: a text or a number"):
    sources.open(f"jsonl:{path}?class=label")


def test_missing_picture(table, tmp_path):
  (tmp_path / "deep" / "photo_5.jpg").unlink()
  source = sources.open(f"jsonl:{table}")
  assert source.row(5)["key"] == "deep/photo_5.jpg"
  with pytest.raises(FileNotFoundError) as info:
    source[5]
  assert str(info.value) == f"jsonl:{table}: row 5: image {str(tmp_path / 'deep/photo_5.jpg')!r} does not exist"


def test_damaged_base64_and_empty_field(tmp_path, write_rows):
  write_rows(tmp_path / "t.jsonl", [{"image": "data:image/png;base64,@@@"}, {"image": None}, {"image": "@" * 300}])
  source = sources.open(f"jsonl:{tmp_path / 't.jsonl'}")
  for index, part in ((0, "is neither a path nor base64"), (1, "holds None; legal: a path or base64"), (2, "neither")):
    with pytest.raises(ValueError, match=part):
      source[index]


def test_no_image_field(tmp_path, write_rows):
  write_rows(tmp_path / "t.jsonl", [{"picture": "x.jpg", "text": "x"}])
  with pytest.raises(ValueError, match="unknown image field ''; legal: picture, text"):
    sources.open(f"jsonl:{tmp_path / 't.jsonl'}")
  with pytest.raises(ValueError, match="unknown image field 'pictur'; did you mean 'picture'"):
    sources.open(f"jsonl:{tmp_path / 't.jsonl'}?image=pictur")


def test_key_field(tmp_path, write_rows):
  write_rows(tmp_path / "t.jsonl", [{"image": "x.jpg", "text": "x", "id": 17}])
  assert sources.open(f"jsonl:{tmp_path / 't.jsonl'}").row(0) == {
    "key": "17",
    "id": 17,
    "text": "x",
    "captions": ["x"],
  }


def test_multi30k(data_dir):
  source = sources.open(f"jsonl:{data_dir}/flickr8k/multi30k_en_de_fr_cs.jsonl?caption=de,captions_de")
  assert len(source) == 6611
  assert len(source.row(0)["captions"]) == 6
