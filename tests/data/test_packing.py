"""Rows of several documents: each as if it were alone; plans that fill them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax.data.packing import Pack, plan

SIZES = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)), min_size=1, max_size=8)


def make(tokens: int, media: int, seed: int = 0) -> dict[str, np.ndarray]:
  rng = np.random.default_rng((seed, tokens, media))
  return {
    "tokens": rng.integers(1, 99, tokens, np.int32),
    "phi": rng.integers(0, media + 1, tokens, np.int32),
    "loss_mask": rng.random(tokens) < 0.5,
    "images": rng.integers(0, 256, (media, 1, 2, 2, 3), np.uint8),
  }


@settings(deadline=None, max_examples=200)
@given(SIZES)
def test_neighbors_change_nothing(sizes):
  documents = [make(*size, seed=i) for i, size in enumerate(sizes)]
  row = Pack(24, 5).join(documents)
  end = media = placed = 0
  for document in documents:
    tokens, more = len(document["tokens"]), len(document["images"])
    if end + tokens > 24 or media + more > 5:
      continue
    placed += 1
    at = slice(end, end + tokens)
    np.testing.assert_array_equal(row["tokens"][at], document["tokens"])
    np.testing.assert_array_equal(row["loss_mask"][at], document["loss_mask"])
    np.testing.assert_array_equal(row["positions"][at], np.arange(tokens))
    np.testing.assert_array_equal(row["phi"][at], np.where(document["phi"] > 0, document["phi"] + media, 0))
    np.testing.assert_array_equal(row["images"][media : media + more], document["images"])
    assert set(row["segments"][at]) == {placed}
    assert set(row["first"][at]) == {media + 1}
    seen = row["phi"][at]
    assert ((seen == 0) | ((seen > media) & (seen <= media + more))).all()
    end, media = end + tokens, media + more
  assert row["media_mask"].tolist() == [i < media for i in range(5)]
  for name in ("tokens", "phi", "first", "segments", "positions", "loss_mask"):
    assert not row[name][end:].any()
  assert not row["images"][media:].any()


def test_one_document_is_a_row_of_its_own():
  document = make(3, 1)
  row = Pack(5, 2)(document, None)
  assert row["segments"].tolist() == [1, 1, 1, 0, 0]
  assert row["images"].shape == (2, 1, 2, 2, 3)
  assert {name: x.dtype.name for name, x in row.items()} == {
    "tokens": "int32",
    "phi": "int32",
    "first": "int32",
    "segments": "int32",
    "positions": "int32",
    "loss_mask": "bool",
    "images": "uint8",
    "media_mask": "bool",
  }


@pytest.mark.parametrize(("tokens", "media"), [(6, 1), (3, 3)])
def test_a_document_larger_than_a_row(tokens, media):
  with pytest.raises(
    ValueError, match=rf"a document of {tokens} tokens and {media} media does not fit into a row of 5"
  ):
    Pack(5, 2)(make(tokens, media), None)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 4)), max_size=200))
def test_a_plan_holds_every_document_once_and_no_row_too_much(sizes):
  tokens, media = np.array(sizes, int).reshape(-1, 2).T
  rows = plan(tokens, media, 20, 4)
  assert sorted(np.concatenate([[], *rows]).tolist()) == list(range(len(sizes)))
  for row in rows:
    assert tokens[row].sum() <= 20
    assert media[row].sum() <= 4


def test_a_plan_fills_rows():
  rows = plan(np.array([3, 7, 5, 5, 2, 8]), np.ones(6, int), 10, 9)
  assert sorted(sorted(row.tolist()) for row in rows) == [[0, 1], [2, 3], [4, 5]]
  with pytest.raises(ValueError, match="document 1 has 11 tokens and 1 media; a row holds 10 and 9"):
    plan(np.array([3, 11]), np.ones(2, int), 10, 9)
