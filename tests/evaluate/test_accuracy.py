"""Top-k accuracy, ties and wrong labels."""

import numpy as np
import pytest

from vljax.evaluate import accuracy


def test_top_k_counts_and_chance():
  scores = np.array([[3.0, 2, 1], [1, 2, 3], [2, 3, 1]])
  found = accuracy.top(scores, np.array([0, 1, 2]), ks=(1, 2))
  assert found == {"top1": 1 / 3, "top2": 2 / 3, "top1/chance": 1 / 3, "top2/chance": 2 / 3}


def test_ties_and_numbers_that_are_none_do_not_count_as_right():
  assert accuracy.top(np.zeros((4, 3)), np.array([0, 1, 2, 0]))["top1"] == 0
  assert accuracy.top(np.full((4, 3), np.nan), np.array([0, 1, 2, 0]), ks=(1,))["top1"] == 0


def test_wrong_labels_and_shapes():
  with pytest.raises(ValueError, match="labels hold 0 to 3; legal for 3 scores: 0 to 2"):
    accuracy.top(np.zeros((2, 3)), np.array([0, 3]))
  with pytest.raises(ValueError, match=r"scores \[n c\] and labels \[n\]"):
    accuracy.top(np.zeros((2, 3)), np.array([0]))
