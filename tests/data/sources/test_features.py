import json

import numpy as np
import pytest

from vljax.data import sources, transforms


@pytest.fixture
def folder(tmp_path):
  """Two shards of 2 and 1 pictures of width 3, with captions of width 2."""
  (tmp_path / "header.json").write_text(json.dumps(dict(shards=2, dim=dict(image=3, text=2), format="npy")))
  for shard, owner in (("00000-of-00002", [0, 0, 1]), ("00001-of-00002", [0, 0])):
    count = len(set(owner))
    np.save(tmp_path / f"image-{shard}.npy", np.full((count, 3), int(shard[4]), np.float32))
    np.save(tmp_path / f"text-{shard}.npy", np.arange(2 * len(owner), dtype=np.float32).reshape(-1, 2))
    keys = [f"{shard}-{i}" for i in range(count)]
    (tmp_path / f"rows-{shard}.json").write_text(json.dumps(dict(keys=keys, owner=owner)))
  return tmp_path


def test_pictures_come_with_the_rows_of_their_captions(folder):
  source = sources.open(f"features:{folder}")
  assert len(source) == 3
  assert [len(source[i]["text_features"]) for i in range(3)] == [2, 1, 2]
  np.testing.assert_array_equal(source[1]["text_features"], [[4, 5]])
  np.testing.assert_array_equal(source[2]["image_features"], [1, 1, 1])
  assert source[2]["key"] == "00001-of-00002-0"
  train, held = (sources.open(f"features:{folder}?split={s}&holdout=1") for s in ("train", "val"))
  assert {train[i]["key"] for i in range(2)} | {held[0]["key"]} == {source[i]["key"] for i in range(3)}


def test_one_row_is_drawn(folder):
  source = sources.open(f"features:{folder}")
  pipeline = transforms.build([("choose_row", "text_features"), ("keep", "image_features", "text_features")])
  assert pipeline.random
  drawn = {tuple(pipeline(source[0], np.random.default_rng(i))["text_features"]) for i in range(20)}
  assert drawn == {(0, 1), (2, 3)}


def test_what_is_missing_is_named(folder):
  (folder / "rows-00001-of-00002.json").unlink()
  with pytest.raises(FileNotFoundError, match="rows-00001-of-00002.json is missing"):
    sources.open(f"features:{folder}")
  (folder / "header.json").unlink()
  with pytest.raises(FileNotFoundError, match=r"launch/encode.py makes them"):
    sources.open(f"features:{folder}")
