"""Perplexity with the right media, with others and without, of a stub whose losses are known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_interleave import BYTES
from vljax.data import sources, transforms
from vljax.evaluate import perplexity

STEPS = [("choose_caption", "first"), ("pair", 0.0), ("interleave", 60, 1), ("pictures", 8), ("pack", 64, 1)]


@pytest.fixture(scope="module")
def rows():
  source = sources.open("synthetic:pairs?n=30&size=8")
  make = transforms.build(STEPS, BYTES)
  return [make(source[i], np.random.default_rng(0)) for i in range(30)]


def test_pictures_that_help(rows):
  own = {row["tokens"].tobytes(): row["images"].tobytes() for row in rows}
  text = {perplexity.without_media(row)["tokens"].tobytes() for row in rows}

  def loss(batch):
    counts = batch["loss_mask"].sum(1)
    each = []
    for tokens, images, there in zip(batch["tokens"], batch["images"], batch["media_mask"], strict=True):
      if there.any():
        each.append(1.0 if own[tokens.tobytes()] == images.tobytes() else 1.5)
      else:
        assert tokens.tobytes() in text
        each.append(1.2)
    return counts * np.array(each), counts

  found = perplexity.conditional(loss, rows, batch=8)
  assert found["perplexity/right"] == pytest.approx(math.e)
  assert found["perplexity/shuffled"] == pytest.approx(math.exp(1.5))
  assert found["perplexity/none"] == pytest.approx(math.exp(1.2))
  for end in ("", "/low", "/high"):
    assert found[f"shuffled/gain{end}"] == pytest.approx(0.5)
    assert found[f"none/gain{end}"] == pytest.approx(0.2)


def test_pictures_that_do_nothing(rows):
  rng = np.random.default_rng(0)

  def loss(batch):
    counts = batch["loss_mask"].sum(1)
    return counts * rng.uniform(1, 2, len(counts)), counts

  found = perplexity.conditional(loss, rows)
  assert found["shuffled/gain/low"] < 0 < found["shuffled/gain/high"]


def test_the_same_tokens_count_without_media(rows):
  for row in rows:
    bare = perplexity.without_media(row)
    np.testing.assert_array_equal(bare["tokens"][bare["loss_mask"]], row["tokens"][row["loss_mask"]])
    image = BYTES.token_id("<image>")
    assert image in row["tokens"]
    assert image not in bare["tokens"]
    end = int((bare["segments"] > 0).sum())
    assert bare["positions"].tolist() == [*range(end), *[0] * (64 - end)]
    for name in ("phi", "images", "media_mask"):
      assert not bare[name].any()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=60), st.integers(0, 99))
def test_lenders_are_of_another_group_with_as_many_media(pairs, seed):
  member, media = np.array(pairs).T
  member = np.unique(member, return_inverse=True)[1]
  largest = [np.bincount(member[media == n]).max() * 2 <= (media == n).sum() for n in np.unique(media[media > 0])]
  if not all(largest):
    with pytest.raises(ValueError, match="are of one group; others cannot lend to all"):
      perplexity.lenders(member, media, seed)
    return
  lender = perplexity.lenders(member, media, seed)
  assert sorted(lender) == list(range(len(pairs)))
  np.testing.assert_array_equal(media[lender], media)
  assert (member[lender] != member)[media > 0].all()


def test_rows_of_one_picture_are_a_group(rows):
  loss = lambda batch: (batch["loss_mask"].sum(1) * 1.0, batch["loss_mask"].sum(1))
  assert perplexity.conditional(loss, rows, [i // 5 for i in range(30)])["none/gain"] == 0.0
  with pytest.raises(ValueError, match="30 rows with 1 groups; legal"):
    perplexity.conditional(loss, rows, ["same"] * 30)
  with pytest.raises(ValueError, match="no token of 30 rows counts"):
    perplexity.conditional(lambda batch: (np.zeros(16), np.zeros(16)), rows)
