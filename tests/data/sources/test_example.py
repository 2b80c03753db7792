"""tf.train.Example without TensorFlow: round trip, and the same bytes as protobuf's."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax.data.sources import example, record

values = st.one_of(
  st.lists(st.binary(max_size=20), max_size=4),
  st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5),
  st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5),
)
features = st.dictionaries(st.text(max_size=5), values, max_size=5)


@settings(max_examples=150, deadline=None)
@given(features)
def test_round_trip(given_features):
  assert example.decode(example.encode(given_features)) == given_features


@settings(max_examples=100, deadline=None)
@given(features)
def test_protobuf_reads_and_writes_the_same(given_features):
  proto = pytest.importorskip("tensorflow_datasets.proto").tf_example_pb2
  parsed = proto.Example.FromString(example.encode(given_features))
  assert set(parsed.features.feature) == set(given_features)
  for name, expected in given_features.items():
    feature = parsed.features.feature[name]
    found = getattr(feature, feature.WhichOneof("kind") or "bytes_list").value
    assert list(found) == expected
  assert example.decode(parsed.SerializeToString()) == given_features


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_damaged_bytes_are_an_error_or_an_example(data):
  with contextlib.suppress(ValueError):
    assert isinstance(example.decode(data), dict)


def test_mixed_types():
  with pytest.raises(ValueError, match="feature 'a' holds"):
    example.encode({"a": [1, 2.0]})


json_values = st.one_of(
  st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.none(), st.booleans(),
  st.lists(st.text(max_size=3), max_size=3),
  st.floats(allow_nan=False), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip
rows = st.lists(st.dictionaries(st.sampled_from("abcd"), json_values), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(rows)
def test_rows_come_back_whatever_they_hold(given_rows):
  types = record.types_of(given_rows)
  assert [record.decode(record.encode(row, types), types) for row in given_rows] == given_rows


def test_guessed_types():
  data = example.encode(
    {"image": [b"\xff\xd8"], "captions": [b"one"], "text": [b"x"], "n": [3], "f": [0.5], "raw": [b"\xff"]}
  )
  expected = {"image": b"\xff\xd8", "captions": ["one"], "text": "x", "n": 3, "f": [0.5], "raw": [b"\xff"]}
  assert record.decode(data, None) == expected
  assert np.float32(0.5) == expected["f"][0]
