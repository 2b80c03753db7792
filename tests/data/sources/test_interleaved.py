"""Pages of texts and pictures: three formats, three places for pictures, what is left out and counted."""

import base64
import dataclasses
import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from vljax.data import interleave, sources, tokenizers, transforms, vocabulary


def png(width=9, height=9, color=None) -> bytes:
  pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels if color is None else np.full_like(pixels, color)).save(file, "PNG")
  return file.getvalue()


PICTURES = {"a.png": png(), "b.png": png(8, 70), "c.png": png(64, 64), "d.png": png(70, 70, 9), "e.png": b"none"}
PAGES = [
  {"doc": "one", "items": [{"type": "text", "text": " Hello \n"}, {"type": "image", "image": "a.png", "alt": "an a"}]},
  {
    "doc": "two",
    "items": ["x", {"image": "gone.png"}, "y", {"image": "b.png"}, {"text": " "}, {"image": "c.png"}, "z"],
  },
  {"doc": "three", "items": ["no", {"image": "gone.png"}]},
  {"doc": "four", "items": [{"image": "d.png"}, {"image": "e.png"}]},
]


@pytest.fixture
def folder(tmp_path, write_tar, write_rows):
  write_tar(tmp_path / "images.tar", {f"images/{name}": data for name, data in PICTURES.items()})
  write_rows(tmp_path / "pages.jsonl", PAGES)
  return tmp_path


def test_our_pages(folder):
  source = sources.open(f"interleaved:{folder}/pages.jsonl")
  assert len(source) == 3
  first = {"key": "one", "items": ["Hello", 0], "alts": ["an a"]}
  assert source.row(0) == first
  assert source[0] == first | {"media": [PICTURES["a.png"]]}
  assert source[1]["items"] == ["x\n\ny", 0, 1, "z"]
  assert source[1]["media"] == [PICTURES["b.png"], PICTURES["c.png"]]
  assert str(source.counts) == "3 pages with 5 pictures; left out: 2 missing, and 1 pages with too few"
  assert pickle.loads(pickle.dumps(source))[1] == source[1]


def test_filters(folder):
  source = sources.open(f"interleaved:{folder}/pages.jsonl?side=9&ratio=3&plain=true")
  assert [page["key"] for page in source] == ["one", "two"]
  assert source[1]["items"] == ["x\n\ny", 0, "z"]
  counts = vars(source.counts)
  assert counts == dict(pages=2, pictures=2, missing=2, broken=1, small=1, narrow=0, plain=1, dropped=2, damaged=0)
  assert sources.open(f"interleaved:{folder}/pages.jsonl?ratio=3").counts.narrow == 1


def test_pages_of_at_least_so_many_pictures(folder, write_rows):
  write_rows(
    folder / "texts.jsonl", [*PAGES, {"doc": "five", "items": ["only", "words"]}, {"doc": "six", "items": []}]
  )
  found = {least: sources.open(f"interleaved:{folder}/texts.jsonl?least={least}") for least in (0, 1, 2)}
  keys = {least: [page["key"] for page in source] for least, source in found.items()}
  assert keys == {0: ["one", "two", "three", "four", "five"], 1: ["one", "two", "four"], 2: ["two", "four"]}
  assert found[0][4] == {"key": "five", "items": ["only\n\nwords"], "media": []}
  assert found[0][2] == {"key": "three", "items": ["no"], "media": []}
  assert (found[0].counts.pages, found[0].counts.dropped) == (5, 1)
  assert (found[2].counts.pages, found[2].counts.pictures, found[2].counts.dropped) == (2, 4, 4)


@pytest.mark.parametrize("media", [0, 5])
def test_texts_alone_become_rows(folder, write_rows, media):
  write_rows(folder / "texts.jsonl", [{"items": ["only words " * 9]}, {"items": ["x", {"image": "c.png"}, "y"]}])
  source = sources.open(f"interleaved:{folder}/texts.jsonl?least=0")
  marks = {"added": (interleave.IMAGE, interleave.CHUNK)}
  words = [f"{a} {b}" for a in ("only", "words", "x", "y") for b in ("dog", "cat", "fish", "bird")]
  tokenizer = dataclasses.replace(tokenizers.train_sentencepiece(words, 278, length=16), **marks)
  steps = [("interleave", 16, media, {"p_next": 0.5}), ("pictures", 8, {"p_flip": 0.5}), ("pack", 16, media)]
  build = transforms.build(steps, tokenizer, "steps")
  rows = [build(source[i], np.random.default_rng(i)) for i in (0, 1)]
  assert [row["images"].shape for row in rows] == [(media, 1, 8, 8, 3)] * 2
  assert [row["media_mask"].sum() for row in rows] == [0, min(media, 1)]
  assert not rows[0]["phi"].any()
  np.testing.assert_array_equal(rows[0]["segments"], 1)
  assert rows[0]["loss_mask"].sum() >= 15
  assert bool(rows[1]["phi"].any()) == bool(media)
  assert (interleave.marks(tokenizer)[0] in rows[1]["tokens"]) == bool(media)


def test_a_folder_of_pictures_and_several_files(folder, write_rows):
  (folder / "loose").mkdir()
  for name, data in PICTURES.items():
    (folder / "loose" / name).write_bytes(data)
  write_rows(folder / "pages_2.jsonl", [{"items": ["last", {"image": "c.png"}]}])
  source = sources.open(f"interleaved:{folder}/{{pages,pages_2}}.jsonl?images=loose")
  assert len(source) == 4
  assert source[3] == {"key": "pages_2.jsonl:0", "items": ["last", 0], "media": [PICTURES["c.png"]]}


def test_pictures_in_the_rows(tmp_path, write_rows):
  text = base64.b64encode(PICTURES["a.png"]).decode()
  items = [{"image": text}, "and", {"image": f"data:image/png;base64,{text}"}, {"image": "%%"}]
  write_rows(tmp_path / "pages.jsonl", [{"items": items}])
  source = sources.open(f"interleaved:{tmp_path}/pages.jsonl?side=2")
  assert source[0]["items"] == [0, "and", 1]
  assert source[0]["media"] == [PICTURES["a.png"]] * 2
  assert source.counts.broken == 1


def test_mmc4(folder, write_rows):
  info = lambda name, at, similarity: {"image_name": name, "matched_text_index": at, "matched_sim": similarity}
  images = [info("a.png", 2, 0.3), info("b.png", 0, 0.2), info("c.png", 2, 0.25), info("gone.png", 1, 0.9)]
  row = {"text_list": ["One.", "Two.", "Three."], "image_info": images, "url": "http://x", "similarity_matrix": [[]]}
  write_rows(folder / "docs.jsonl", [row])
  source = sources.open(f"interleaved:{folder}/docs.jsonl")
  assert source[0]["items"] == [0, "One. Two.", 1, 2, "Three."]
  assert source[0]["media"] == [PICTURES["b.png"], PICTURES["a.png"], PICTURES["c.png"]]
  assert (source[0]["key"], source.counts.missing) == ("http://x", 1)
  closer = sources.open(f"interleaved:{folder}/docs.jsonl?format=mmc4&similarity=0.24")
  assert closer[0]["items"] == ["One. Two.", 0, 1, "Three."]


def test_mmc4_with_base64(tmp_path, write_rows):
  text = base64.b64encode(PICTURES["a.png"]).decode()
  write_rows(
    tmp_path / "d.jsonl", [{"text_list": ["A."], "image_info": [{"image_base64": text, "matched_text_index": 0}]}]
  )
  assert sources.open(f"interleaved:{tmp_path}/d.jsonl")[0]["media"] == [PICTURES["a.png"]]


def test_obelics(folder, write_rows):
  url = "https://x.org/pics/c.png?size=3"
  metadata = [{"formatted_filename": "a.png", "alt_text": "an a"}, None, {"src": url}, None]
  row = {"images": ["https://x.org/1", None, url, None], "texts": [None, "t", None, "u"]}
  write_rows(folder / "docs.jsonl", [row | {"metadata": json.dumps(metadata), "general_metadata": "{}"}])
  source = sources.open(f"interleaved:{folder}/docs.jsonl")
  assert source[0] == {
    "key": "docs.jsonl:0",
    "items": [0, "t", 1, "u"],
    "alts": ["an a", ""],
    "media": [PICTURES["a.png"], PICTURES["c.png"]],
  }
  write_rows(folder / "docs.jsonl", [row])
  assert sources.open(f"interleaved:{folder}/docs.jsonl")[0]["items"] == ["t", 0, "u"]


def test_damaged_rows_are_left_out(folder):
  with (folder / "pages.jsonl").open("a") as file:
    file.write('{"items": 3}\n{"items": [{"url": "x"}]}\n{"items": [7]}\n["list"]\n{"items": [{"image": "a.p')
  source = sources.open(f"interleaved:{folder}/pages.jsonl")
  assert len(source) == 3
  assert source.notes == "3 pages with 5 pictures; left out: 2 missing, and 1 pages with too few, 5 damaged pages"


def test_what_is_no_set_of_pages(folder, write_rows):
  write_rows(folder / "captions.jsonl", [{"image": "a.png", "caption": "a"}])
  with pytest.raises(
    ValueError, match=r"rows with \['caption', 'image'\] are no pages; legal: rows with items \(items\)"
  ):
    sources.open(f"interleaved:{folder}/captions.jsonl")
  with pytest.raises(ValueError, match="unknown format of pages 'mmc'; did you mean 'mmc4'"):
    sources.open(f"interleaved:{folder}/pages.jsonl?format=mmc")
  write_rows(folder / "empty.jsonl", [{"items": ["text"]}])
  with pytest.raises(ValueError, match="no page is left: 0 pages with 0 pictures"):
    sources.open(f"interleaved:{folder}/empty.jsonl")
  with pytest.raises(ValueError, match="side = 0, ratio = 0.5; legal: 1 or more each"):
    sources.open(f"interleaved:{folder}/pages.jsonl?side=0&ratio=0.5")
  with pytest.raises(ValueError, match="least = -1; legal: 0 or more pictures of a page"):
    sources.open(f"interleaved:{folder}/pages.jsonl?least=-1")
  with pytest.raises(FileNotFoundError, match="tar or folder of images"):
    sources.open(f"interleaved:{folder}/pages.jsonl?images=no.tar")


def test_a_vocabulary_of_pages(folder):
  assert vocabulary.captions(sources.open(f"interleaved:{folder}/pages.jsonl")) == ["Hello", "x\n\ny", "z"]


def test_lessons(data_dir):
  where = f"interleaved:{data_dir}/interleaved_iot/pages.jsonl"
  source = sources.open(where)
  assert (len(source), source.counts.pictures, source.counts.missing) == (62, 257, 0)
  strict = sources.open(f"{where}?side=64&ratio=3&plain=true")
  assert str(strict.counts) == "61 pages with 225 pictures; left out: 22 small, 10 narrow, and 1 pages with too few"
  page = strict[0]
  assert sum(isinstance(item, int) for item in page["items"]) == len(page["media"]) == len(page["alts"])
