"""Stacking examples and counting broken ones."""

import numpy as np
import pytest

from vljax.data import batching
from vljax.data.batching import Broken, Failure


def test_stack():
  made = batching.stack([{"x": np.ones(2), "n": 1, "s": "a"}, {"x": np.zeros(2), "n": 2, "s": "b"}])
  assert made["x"].shape == (2, 2)
  assert made["n"].tolist() == [1, 2]
  assert made["s"] == ["a", "b"]


def test_unequal_shapes_and_fields():
  with pytest.raises(
    ValueError, match=r"field 'x' has different shapes in one batch: \[2\], \[3\]; crop, resize or pad"
  ):
    batching.stack([{"x": np.ones(2)}, {"x": np.ones(3)}])
  with pytest.raises(ValueError, match=r"not the same fields: \['y'\] are in some"):
    batching.stack([{"x": 1}, {"x": 1, "y": 2}])


def test_texts_do_not_go_to_a_device():
  with pytest.raises(ValueError, match=r"""field 'key' is a str, .*\("keep", 'x'\)"""):
    batching.numeric({"x": np.ones(2), "key": ["a", "b"]})


def test_few_broken_examples_are_counted_and_logged_once(caplog):
  broken = Broken(limit=0.1)
  for _ in range(3):
    broken.add(100, [Failure("a", "ValueError: bad")])
  assert (broken.count, broken.seen, broken.keys) == (3, 303, {"a"})
  assert broken.last == Failure("a", "ValueError: bad")


def test_too_many_stop():
  broken = Broken(limit=0.1)
  broken.add(0, [Failure(str(i), "OSError: gone") for i in range(10)])
  with pytest.raises(
    ValueError,
    match=r"^11 of 11 examples are broken \(11 different ones\), more than the share max_broken = 0.1; "
    r"the last one is 10: OSError: gone$",
  ):
    broken.add(0, [Failure("10", "OSError: gone")])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ((10, 0, 3), "batch = 10 does not divide among 3 processes; legal: a positive multiple"),
    ((0, 0, 1), "batch = 0"),
    ((8, 2, 2), "process_index = 2; legal: 0 to 1"),
  ],
)
def test_shard(arguments, message):
  with pytest.raises(ValueError, match=message):
    batching.shard(*arguments)
  assert batching.shard(12, 1, 3) == 4


def test_numbers_of_python_have_32_bits():
  batch = batching.stack([{"label": 3, "share": 0.5, "flag": True, "ids": np.arange(2)}] * 2)
  assert [str(batch[name].dtype) for name in ("label", "share", "flag", "ids")] == [
    "int32",
    "float32",
    "bool",
    "int64",
  ]
  with pytest.raises(OverflowError):
    batching.stack([{"label": 2**40}])
