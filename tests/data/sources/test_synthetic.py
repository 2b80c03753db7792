"""Drawn shapes: the same everywhere, and as their captions say."""

import hashlib

import numpy as np
import pytest

from vljax.data import sources
from vljax.data.sources import synthetic


def test_deterministic():
  first, second = (sources.open("synthetic:pairs?n=20&seed=4") for _ in range(2))
  assert all(
    (a["image"] == b["image"]).all() and a["captions"] == b["captions"] for a, b in zip(first, second, strict=True)
  )
  assert first[3]["captions"] != sources.open("synthetic:pairs?n=20&seed=5")[3]["captions"]


def test_fixed_for_all_machines():
  example = sources.open("synthetic:pairs?n=20&size=16&seed=0")[11]
  assert example["captions"] == [
    "a small purple circle in the middle of a black picture",
    "small purple circle on black",
  ]
  assert hashlib.sha256(example["image"].tobytes()).hexdigest()[:16] == "343abbe31ea38a59"


def test_picture_shows_what_the_caption_says():
  for example in sources.open("synthetic:pairs?n=60&size=32"):
    image = example["image"]
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert (image[0, 0] == synthetic.COLORS[example["ground"]]).all()
    inside = (image == synthetic.COLORS[example["color"]]).all(-1)
    y, x = np.nonzero(inside)
    assert 0.02 < inside.mean() < 0.3
    if "left" in example["place"]:
      assert x.mean() < 13
    if "bottom" in example["place"]:
      assert y.mean() > 19
    assert (
      example["captions"][1] == f"{example['extent']} {example['color']} {example['shape']} on {example['ground']}"
    )
    assert example["class"] == synthetic.SHAPES[example["label"]] == example["shape"]


def test_wrong_arguments():
  with pytest.raises(ValueError, match="unknown synthetic set 'pair'; did you mean 'pairs'"):
    sources.open("synthetic:pair")
  with pytest.raises(ValueError, match="n must be 1 or more"):
    sources.open("synthetic:pairs?n=0")
