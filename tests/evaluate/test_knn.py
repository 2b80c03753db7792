"""Neighbors and their votes against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax.evaluate import knn


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(5, 20), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_neighbors_equal_a_stable_sort(n, m, k, seed):
  rng = np.random.default_rng(seed)
  query, gallery = (rng.integers(-2, 3, (rows, 3)).astype(np.float32) for rows in (n, m))
  scores, indices = knn.neighbors(query, gallery, k, block=(4, 5))
  whole = query @ gallery.T
  order = np.argsort(-whole, axis=1, kind="stable")[:, :k]
  np.testing.assert_array_equal(indices, order)
  np.testing.assert_array_equal(scores, np.take_along_axis(whole, order, axis=1))


def test_votes_are_weighted_by_similarity():
  gallery = np.array([[1, 0], [0.8, 0.6], [0.8, -0.6], [0, 1]], np.float32)
  labels = np.array([0, 1, 1, 1])
  query = np.array([[5.0, 0.0]], np.float32)
  weighted = knn.classify(query, gallery, labels, k=3)
  plain = knn.classify(query, gallery, labels, k=3, temperature=None)
  np.testing.assert_allclose(weighted, [[1.0, 2 * np.exp(-0.2 / 0.07)]], rtol=1e-5)
  np.testing.assert_array_equal(plain, [[1.0, 2.0]])


def test_accuracy_of_separable_classes():
  rng = np.random.default_rng(0)
  centers = np.eye(6)[:4] * 4
  labels = np.repeat(np.arange(4), 30)
  z = (centers[labels] + rng.normal(size=(120, 6)) * 0.3).astype(np.float32)
  found = knn.evaluate(z[::2], labels[::2], z[1::2], labels[1::2], k=5, ks=(1, 2))
  assert found["top1"] == found["top2"] == 1.0
  assert found["top1/chance"] == 0.25


def test_bad_input_is_named():
  z = np.ones((4, 2), np.float32)
  with pytest.raises(ValueError, match="k = 5 neighbors of 4 gallery rows; legal: 1 to 4"):
    knn.neighbors(z, z, 5)
  with pytest.raises(ValueError, match=r"needs queries \[n d\] and a gallery \[m d\]"):
    knn.neighbors(z, np.ones((4, 3)), 1)
  with pytest.raises(ValueError, match="labels must be one index for each of 4"):
    knn.classify(z, z, np.zeros(3, int), 1)
  with pytest.raises(ValueError, match="labels reach 7; legal for 3 classes: 0 to 2"):
    knn.classify(z, z, np.array([0, 1, 2, 7]), 1, classes=3)
