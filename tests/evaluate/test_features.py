"""Features in the order of the data, padding dropped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import parallel
from vljax.evaluate import features


def batches():
  yield {"x": np.arange(4.0), "label": np.arange(4), "valid": np.array([True, True, False, True])}
  yield {"x": np.arange(4.0, 8.0), "label": np.arange(4, 8), "valid": np.array([True, False, False, False])}


def test_collect_keeps_real_rows_in_order():
  double = jax.jit(lambda batch: {"z": jnp.stack([batch["x"], 2 * batch["x"]], axis=1)})
  found = features.collect(double, batches(), keep=("label",))
  np.testing.assert_array_equal(found["label"], [0, 1, 3, 4])
  np.testing.assert_array_equal(found["output"]["z"], [[0, 0], [1, 2], [3, 6], [4, 8]])


def test_collect_dispatches_ahead_of_the_fetch():
  events = []

  class Output:
    def __init__(self, i):
      self.i = i

    def __array__(self, dtype=None, copy=None):
      events.append(f"fetch {self.i}")
      return np.zeros(1)

  def predict(batch):
    events.append(f"dispatch {batch['i']}")
    return Output(batch["i"])

  features.collect(predict, ({"i": i} for i in range(3)))
  assert events == ["dispatch 0", "dispatch 1", "fetch 0", "dispatch 2", "fetch 1", "fetch 2"]


def test_collect_names_what_is_missing():
  with pytest.raises(ValueError, match=r"no field 'lable'; it has \['label', 'valid', 'x'\]"):
    features.collect(lambda batch: batch["x"], batches(), keep=("lable",))
  with pytest.raises(ValueError, match="gave no batch"):
    features.collect(lambda batch: batch["x"], [])


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
