"""Features in the order of the data."""

import jax
import numpy as np
import pytest

from vljax import parallel
from vljax.evaluate import features


def test_encode_dispatches_ahead_of_the_fetch():
  events = []

  class Output:
    def __init__(self, i):
      self.i = i

    def __array__(self, dtype=None, copy=None):
      events.append(f"fetch {self.i}")
      return np.full(1, self.i)

  def function(part):
    events.append(f"dispatch {part[0]}")
    return Output(part[0])

  np.testing.assert_array_equal(features.encode(function, range(3), batch=1), range(3))
  assert events == ["dispatch 0", "dispatch 1", "fetch 0", "dispatch 2", "fetch 1", "fetch 2"]


@pytest.mark.parametrize("n", [1, 4, 5])
def test_encode_calls_with_one_size(n):
  sizes = []

  def lengths(texts):
    sizes.append(len(texts))
    return np.array([[len(text)] for text in texts])

  texts = ["x" * i for i in range(n)]
  np.testing.assert_array_equal(features.encode(lengths, texts, batch=4), np.arange(n)[:, None])
  assert set(sizes) == {4}


def test_encode_on_a_mesh_fills_every_device():
  sizes = []
  with parallel.use(parallel.make()):
    found = features.encode(lambda part: sizes.append(len(part)) or np.array(part), range(5), batch=3)
  np.testing.assert_array_equal(found, range(5))
  assert sizes == [jax.device_count()]


def test_encode_of_nothing_is_named():
  with pytest.raises(ValueError, match="nothing to encode"):
    features.encode(np.asarray, [])
  for batch in (0, -1):
    with pytest.raises(ValueError, match=f"^batch = {batch}; legal: 1 or more"):
      features.encode(np.asarray, [1], batch)
