"""URIs: kinds, options, their types, and the one sentence of each error."""

import pickle

import pytest

from vljax.data import sources

LEGAL = (
  "array_record, easy_vqa, espeak, features, folder, hf, interleaved, jsonl, openmoji, pairs, synthetic, tfds, "
  "webdataset"
)


def message(uri: str, error: type[Exception] = ValueError) -> str:
  with pytest.raises(error) as info:
    sources.open(uri)
  return str(info.value)


def test_unknown_kind():
  assert message("piars:DIR") == f"unknown source kind 'piars'; did you mean 'pairs'? legal: {LEGAL}"


def test_no_kind():
  expected = "source '/data/photos' names no kind; write kind:path?option=value, as folder:/data/photos"
  assert message("/data/photos") == expected


def test_unknown_option():
  expected = (
    "unknown option 'sized' of source kind 'synthetic'; did you mean 'size'? legal: by, holdout, n, seed, size, split"
  )
  assert message("synthetic:pairs?sized=3") == expected


def test_option_of_wrong_type():
  assert message("synthetic:pairs?n=many") == "source 'synthetic:pairs?n=many': option n=many is not of type int"


def test_option_without_value():
  assert message("synthetic:pairs?n") == "source 'synthetic:pairs?n': option 'n' is not of the form name=value"


def test_option_twice():
  assert message("synthetic:pairs?n=3&n=4") == "source 'synthetic:pairs?n=3&n=4': option 'n' is given twice"


def test_unknown_split():
  expected = "unknown split 'trian'; did you mean 'train'? legal: train, val"
  assert message("synthetic:pairs?split=trian") == expected


def test_holdout_without_split():
  expected = "synthetic:pairs: holdout and by divide a source; say which side: split=train or split=val"
  assert message("synthetic:pairs?holdout=3") == expected


def test_unknown_field_to_split_by():
  text = message("synthetic:pairs?split=val&by=colour")
  assert text.startswith("synthetic:pairs: unknown field 'colour'; did you mean 'color'? legal: color, ")


def test_missing_package(monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "easy_vqa", None)
  expected = "source easy_vqa: needs the package easy-vqa: pip install 'vljax[quickstart]'"
  assert message("easy_vqa:", ImportError) == expected


def test_parts_share_the_source():
  whole = sources.open("synthetic:pairs?n=40")
  train, val = (sources.open(f"synthetic:pairs?n=40&split={side}&holdout=7") for side in ("train", "val"))
  assert (len(train), len(val)) == (33, 7)
  assert {train.row(i)["key"] for i in range(33)} | {val.row(i)["key"] for i in range(7)} == set(whole.values("key"))
  assert train.classes == whole.classes
  assert train.name == "synthetic:pairs (train)"


def test_iteration_ends():
  source = sources.open("synthetic:pairs?n=5&split=train&holdout=2")
  assert len(list(source)) == 3
  with pytest.raises(IndexError, match="has 3 examples; there is no number 3"):
    source[3]


def test_pickles():
  source = sources.open("synthetic:pairs?n=5&split=train&holdout=2")
  again = pickle.loads(pickle.dumps(source))
  assert [example["key"] for example in again] == [example["key"] for example in source]


def test_percent_signs_are_decoded(pairs):
  (pairs / "a&b.jsonl").write_text((pairs / "captions.jsonl").read_text())
  assert len(sources.open(f"pairs:{pairs}?table=a%26b.jsonl")) == 10
