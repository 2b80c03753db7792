"""The memoryless permutation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vljax.data import shuffle


@given(st.integers(1, 500), st.integers(0, 2**63), st.integers(0, 10**6))
def test_a_permutation(n, seed, epoch):
  assert sorted(shuffle.permute(i, n, seed, epoch) for i in range(n)) == list(range(n))


@given(st.integers(1, 10**12), st.data())
def test_inside_at_any_size(n, data):
  assert 0 <= shuffle.permute(data.draw(st.integers(0, n - 1)), n, 0, 0) < n


@pytest.mark.parametrize("n", [5, 64, 101])
def test_every_place_is_equally_likely(n):
  runs = 200 * n // 5
  counts = np.zeros((n, n))
  for epoch in range(runs):
    for i in (0, 1, n // 2, n - 1):
      counts[i, shuffle.permute(i, n, 7, epoch)] += 1
  expected = runs / n
  chi = ((counts[[0, 1, n // 2, n - 1]] - expected) ** 2 / expected).sum(1)
  assert (chi < (n - 1) + 5 * np.sqrt(2 * (n - 1))).all()


def test_all_orders_of_four_occur():
  orders = {tuple(shuffle.permute(i, 4, seed, 0) for i in range(4)) for seed in range(600)}
  assert orders == set(itertools.permutations(range(4)))


def test_seed_and_epoch_do_not_alias():
  order = lambda seed, epoch: tuple(shuffle.permute(i, 50, seed, epoch) for i in range(50))
  assert len({order(s, e) for s in range(8) for e in range(8)}) == 64


def test_the_order_is_part_of_the_format():
  assert [shuffle.permute(i, 10, 0, 0) for i in range(10)] == [6, 2, 7, 3, 0, 1, 9, 8, 4, 5]
