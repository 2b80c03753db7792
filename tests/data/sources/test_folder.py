"""Folders of pictures: where captions and classes come from."""

import pytest

from vljax.data import sources
from vljax.data.sources import folder


@pytest.fixture
def flat(tmp_path, pictures):
  for name, data in pictures.items():
    (tmp_path / name).write_bytes(data)
  return tmp_path


@pytest.fixture
def nested(tmp_path, pictures):
  for number, (name, data) in enumerate(pictures.items()):
    place = tmp_path / ("red_cars" if number < 5 else "cats")
    place.mkdir(exist_ok=True)
    (place / name).write_bytes(data)
  return tmp_path


def test_captions_from_names(flat, pictures):
  source = sources.open(f"folder:{flat}")
  assert source[2] == {"key": "photo_2.png", "captions": ["photo"], "image": pictures["photo_2.png"]}
  assert source.classes is None


def test_captions_from_texts(flat):
  for name in ("photo_0", "photo_1"):
    (flat / f"{name}.txt").write_text("one\n\n two \n")
  source = sources.open(f"folder:{flat}")
  assert source[0]["captions"] == ["one", "two"]
  with pytest.raises(ValueError, match="has no caption") as info:
    source[2]
  expected = f"folder:{flat}: 'photo_2.png' has no caption: 'photo_2.txt' is absent or empty"
  assert str(info.value) == expected


def test_texts_made_on_windows(flat):
  (flat / "photo_0.txt").write_bytes(b"\xef\xbb\xbfa red car\r\n")
  (flat / "photo_1.txt").write_bytes("ein Kätzchen".encode("latin-1"))
  source = sources.open(f"folder:{flat}")
  assert source[0]["captions"] == ["a red car"]
  with pytest.raises(ValueError, match=r"photo_1.txt holds b'ein K\\xe4tzchen'; legal: text in UTF-8"):
    source[1]


def test_classes_from_subfolders(nested):
  source = sources.open(f"folder:{nested}")
  assert source.classes == ("cats", "red_cars")
  assert {k: source[9][k] for k in ("key", "class", "label", "captions")} == {
    "key": "red_cars/photo_4.png",
    "class": "red_cars",
    "label": 1,
    "captions": ["red cars"],
  }
  assert "captions" not in sources.open(f"folder:{nested}?caption=none")[0]


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path, pictures):
  for number in range(12):
    (tmp_path / str(number)).mkdir()
    (tmp_path / str(number) / "a.png").write_bytes(pictures["photo_0.png"])
  source = sources.open(f"folder:{tmp_path}")
  assert source.classes == tuple(map(str, range(12)))
  assert all(source.row(i)["label"] == int(source.row(i)["class"]) for i in range(12))


def test_numbers_of_classes_are_words(tmp_path, pictures):
  for name in ("digit_0", "digit_1", "n01440764"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.png").write_bytes(pictures["photo_0.png"])
  source = sources.open(f"folder:{tmp_path}")
  assert [source.row(i)["captions"] for i in range(3)] == [["digit 0"], ["digit 1"], ["n01440764"]]


@pytest.mark.parametrize(
  ("name", "expected"),
  [
    ("red_car-02", "red car"),
    ("IMG_0001", "IMG"),
    ("0001", ""),
    ("u2_live", "u2 live"),
    ("A cat, asleep", "A cat, asleep"),
  ],
)
def test_words(name, expected):
  assert folder.words(name) == expected


def test_name_without_words(tmp_path, pictures):
  (tmp_path / "0001.png").write_bytes(pictures["photo_0.png"])
  with pytest.raises(ValueError, match="its name holds no words"):
    sources.open(f"folder:{tmp_path}")[0]


def test_empty_folder(tmp_path):
  (tmp_path / "notes.md").write_text("no picture")
  with pytest.raises(ValueError, match="holds no picture") as info:
    sources.open(f"folder:{tmp_path}")
  looked = ".jpg, .jpeg, .png, .webp, .gif, .bmp, .tif, .tiff"
  assert str(info.value) == f"folder {str(tmp_path)!r} holds no picture; looked for {looked}, also in subfolders"


def test_missing_folder(tmp_path):
  with pytest.raises(FileNotFoundError) as info:
    sources.open(f"folder:{tmp_path / 'none'}")
  assert str(info.value) == f"folder {str(tmp_path / 'none')!r} does not exist"


def test_unknown_caption_rule(flat):
  with pytest.raises(ValueError, match="unknown caption rule 'nam'; did you mean 'name'"):
    sources.open(f"folder:{flat}?caption=nam")


def test_suffixes_of_any_case(tmp_path, pictures):
  (tmp_path / "P1.PNG").write_bytes(pictures["photo_0.png"])
  (tmp_path / "P1.TXT").write_text("a caption")
  source = sources.open(f"folder:{tmp_path}")
  assert [source[i]["captions"] for i in range(len(source))] == [["a caption"]]
