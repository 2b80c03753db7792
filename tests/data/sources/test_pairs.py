"""Tables with a tar or a folder of pictures: matching, captions, classes and what is missing."""

import json
import pickle

import pytest

from vljax.data import sources


def test_examples(pairs, pictures):
  source = sources.open(f"pairs:{pairs}")
  assert len(source) == 10
  expected = {"key": "photo_3.jpg", "captions": ["photo 3", "picture 3"], "place": "place 1"}
  assert source[3] == expected | {"image": pictures["photo_3.jpg"]}
  assert source.row(3) == expected


def test_folder_of_images(pairs, pictures):
  (pairs / "loose").mkdir()
  for name, data in pictures.items():
    (pairs / "loose" / name).write_bytes(data)
  source = pickle.loads(pickle.dumps(sources.open(f"pairs:{pairs}?images=loose")))
  assert source[4]["image"] == pictures["photo_4.png"]


def test_split_by_field(pairs):
  val = sources.open(f"pairs:{pairs}?split=val&by=place&holdout=2")
  train = sources.open(f"pairs:{pairs}?split=train&by=place&holdout=2")
  assert (len(train), len(val)) == (6, 4)
  assert not set(train.values("place")) & set(val.values("place"))


def test_patterns_and_dotted_fields(tmp_path, write_tar, write_rows):
  write_tar(tmp_path / "images.tar", {"x/1.png": b"x1", "y/1.png": b"y1", "x/2.png": b"x2"})
  rows = [
    {"id": 1, "styles": ["x", "y"], "label": {"en": "one", "de": "eins"}, "group": "odd"},
    {"id": 2, "styles": ["x"], "label": {"en": "two", "de": "zwei"}, "group": "even"},
  ]
  write_rows(tmp_path / "t.jsonl", rows)
  source = sources.open(
    f"pairs:{tmp_path}?table=t.jsonl&image={{styles}}/{{id}}.png&caption=label.de,label.en&class=group"
  )
  assert [(e["key"], e["image"], e["captions"], e["class"], e["label"]) for e in source] == [
    ("x/1.png", b"x1", ["eins", "one"], "odd", 1),
    ("y/1.png", b"y1", ["eins", "one"], "odd", 1),
    ("x/2.png", b"x2", ["zwei", "two"], "even", 0),
  ]
  assert source.classes == ("even", "odd")
  with pytest.raises(ValueError, match="holds") as info:
    sources.open(f"pairs:{tmp_path}?table=t.jsonl&image=x/{{id}}.png&caption=label")[0]
  name = f"pairs:{tmp_path}/t.jsonl: 'x/1.png'"
  assert str(info.value) == f"{name}: caption field 'label' holds ['de', 'en']; name one, as label.de"


def test_row_without_image_is_counted(pairs):
  with (pairs / "captions.jsonl").open("a") as file:
    file.write(json.dumps({"image": "gone.jpg", "captions": ["gone"]}) + "\n")
  source = sources.open(f"pairs:{pairs}")
  assert (len(source), source.missing) == (10, 1)


def test_no_image_at_all(pairs, write_rows):
  write_rows(pairs / "captions.jsonl", [{"image": f"{n}.gif", "captions": ["x"]} for n in range(3)])
  with pytest.raises(ValueError, match="none of") as info:
    sources.open(f"pairs:{pairs}")
  name, images = f"pairs:{pairs}/captions.jsonl", str(pairs / "images.tar")
  assert str(info.value) == f"{name}: none of the 3 images of the table is in {images!r}; '0.gif' is not"


def test_missing_caption_is_an_error_of_its_example(pairs, pictures, write_rows):
  rows = [{"image": name, "captions": ["fine"]} for name in pictures]
  rows[4]["captions"] = ["", "  "]
  del rows[5]["captions"]
  write_rows(pairs / "captions.jsonl", rows)
  source = sources.open(f"pairs:{pairs}")
  assert source[3]["captions"] == ["fine"]
  for index, key in ((4, "photo_4.png"), (5, "photo_5.jpg")):
    with pytest.raises(ValueError, match="has no caption") as info:
      source[index]
    name = f"pairs:{pairs}/captions.jsonl: {key!r}"
    assert str(info.value) == f"{name} has no caption: field 'captions' is absent or empty"
  assert len(sources.open(f"pairs:{pairs}?split=train&holdout=2")) == 8


def test_missing_files(pairs, tmp_path):
  with pytest.raises(FileNotFoundError) as info:
    sources.open(f"pairs:{tmp_path / 'none'}")
  assert str(info.value) == f"folder {str(tmp_path / 'none')!r} does not exist"
  with pytest.raises(FileNotFoundError) as info:
    sources.open(f"pairs:{pairs}?table=none.jsonl")
  assert str(info.value) == f"table {str(pairs / 'none.jsonl')!r} does not exist"
  with pytest.raises(FileNotFoundError) as info:
    sources.open(f"pairs:{pairs}?images=none.tar")
  assert str(info.value) == f"tar or folder of images {str(pairs / 'none.tar')!r} does not exist"


def test_damaged_table(pairs):
  (pairs / "captions.jsonl").write_text('{"image": "photo_0.png", "captions": ["x"]}\n{"image": "pho')
  with pytest.raises(ValueError, match="row 1 is not JSON"):
    sources.open(f"pairs:{pairs}")
  (pairs / "captions.jsonl").write_text("\n\n")
  with pytest.raises(ValueError, match="is empty") as info:
    sources.open(f"pairs:{pairs}")
  assert str(info.value) == f"table {str(pairs / 'captions.jsonl')!r} is empty"


def test_unknown_image_field(pairs):
  with pytest.raises(ValueError, match="unknown field") as info:
    sources.open(f"pairs:{pairs}?image=imgae")
  name = f"pairs:{pairs}/captions.jsonl"
  assert str(info.value) == f"{name}: unknown field 'imgae'; did you mean 'image'? legal: captions, image, place"


def test_flickr8k(data_dir):
  uri = f"pairs:{data_dir}/flickr8k?images=images_128.tar"
  assert len(sources.open(uri)) == 7142
  train, val = (sources.open(f"{uri}&split={side}&holdout=500") for side in ("train", "val"))
  assert (len(train), len(val)) == (6642, 500)
  assert not set(train.values("key")) & set(val.values("key"))
  example = val[17]
  assert len(example["captions"]) == 5
  assert example["image"].startswith(b"\xff\xd8")


def test_emoji(data_dir):
  uri = f"pairs:{data_dir}/emoji?table=emoji.jsonl&images=images_64.tar&image={{vendors}}/{{hexcode}}.png"
  uri += "&caption=label.en&class=group&by=base"
  train, val = (sources.open(f"{uri}&split={side}&holdout=0.1") for side in ("train", "val"))
  assert len(train) + len(val) == 12849
  assert not set(train.values("base")) & set(val.values("base"))
  assert "flags" in val.classes
  assert val[5]["image"].startswith(b"\x89PNG")


def test_the_missing_are_noted(pairs):
  assert sources.open(f"pairs:{pairs}").notes is None
  with (pairs / "captions.jsonl").open("a") as file:
    file.write(json.dumps({"image": "gone.jpg", "captions": ["gone"]}) + "\n")
  note = "1 of 11 images of the table are missing"
  assert sources.open(f"pairs:{pairs}").notes == note
  assert sources.open(f"pairs:{pairs}?split=val&holdout=2").notes == note
