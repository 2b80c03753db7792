"""Splits: disjoint by group, complete, equal everywhere, and of the size that was asked for."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vljax.data.sources import split

groups = st.lists(st.text(max_size=3), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(groups, st.integers(1, 20), st.integers(0, 5))
def test_sides_are_disjoint_and_complete(names, holdout, seed):
  distinct = len(set(names))
  if holdout >= distinct:
    with pytest.raises(ValueError, match="both sides need one"):
      split.indices(names, "val", holdout, seed)
    return
  train, val = (split.indices(names, side, holdout, seed) for side in ("train", "val"))
  assert sorted([*train, *val]) == list(range(len(names)))
  assert not {names[i] for i in train} & {names[i] for i in val}
  assert len({names[i] for i in val}) == holdout


@settings(max_examples=50, deadline=None)
@given(st.sets(st.text(max_size=4), min_size=30, max_size=80), st.floats(0.2, 0.8), st.randoms())
def test_order_and_company_do_not_matter(names, fraction, random):
  below = sum(split.rank(name) < fraction * 2**64 for name in names)
  assume(0 < below < len(names))
  ordered = sorted(names)
  shuffled = list(ordered)
  random.shuffle(shuffled)
  held = {n for n, v in zip(ordered, split.validation(ordered, fraction), strict=True) if v}
  again = {n for n, v in zip(shuffled, split.validation(shuffled, fraction), strict=True) if v}
  assert held == again
  more = [*ordered, "another group"]
  grown = {n for n, v in zip(more, split.validation(more, fraction), strict=True) if v}
  assert grown - {"another group"} == held


def test_fixed_for_all_machines():
  mask = split.validation([f"image_{n}.jpg" for n in range(12)], 4)
  assert np.flatnonzero(mask).tolist() == [0, 2, 5, 9]
  assert split.rank("image_0.jpg") == 4586453011347016588


def test_seed_changes_the_choice():
  names = [str(n) for n in range(100)]
  assert (split.validation(names, 10, 0) != split.validation(names, 10, 1)).any()


def test_numbers_and_texts_are_the_same_group():
  assert (split.validation(list(range(50)), 5) == split.validation([str(n) for n in range(50)], 5)).all()


@pytest.mark.parametrize("holdout", [0, -1, 1.5, 0.0, True])
def test_illegal_holdout(holdout):
  with pytest.raises(ValueError, match="neither a number of groups"):
    split.validation(["a", "b"], holdout)


def test_message_of_an_empty_side():
  with pytest.raises(ValueError, match="both sides") as info:
    split.validation(["a", "b", "a"], 2)
  assert str(info.value) == "holdout = 2 takes 2 of 2 groups; both sides need one at least"
