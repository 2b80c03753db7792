"""easy-VQA from pip."""

import pytest

from vljax.data import sources

pytest.importorskip("easy_vqa")


def test_examples():
  source = sources.open("easy_vqa:")
  assert len(source) == 38575
  example = source[5]
  assert example["captions"] == [f"{example['question']} {example['answer']}"]
  assert example["class"] == example["answer"] == source.classes[example["label"]]
  assert example["image"].startswith(b"\x89PNG")
  assert len(source.classes) == 13
  assert "MIT" in source.credit


@pytest.mark.slow
def test_split_by_picture():
  train, val = (sources.open(f"easy_vqa:?split={side}&holdout=100") for side in ("train", "val"))
  assert not set(train.values("image_id")) & set(val.values("image_id"))
  assert len(set(val.values("image_id"))) == 100


def test_parts():
  assert len(sources.open("easy_vqa:?part=test")) == 9673
  with pytest.raises(ValueError, match="unknown part of easy_vqa: 'tset'; did you mean 'test'"):
    sources.open("easy_vqa:?part=tset")
