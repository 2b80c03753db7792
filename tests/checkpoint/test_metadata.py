import re

import ml_collections
import pytest

import vljax
from vljax.checkpoint import Metadata, metadata


def test_round_trip(tmp_path):
  written = Metadata({"optim": [(".*", {"lr": 1.0})]}, {"image": {"mean": (0.5, 0.5)}})
  metadata.write(tmp_path / "run", written)
  found = metadata.read(tmp_path / "run")
  assert found.config == {"optim": [[".*", {"lr": 1.0}]]}
  assert found.version == vljax.__version__
  metadata.check(found, written)


def test_config_dicts(tmp_path):
  config = ml_collections.ConfigDict({"a": {"b": 1}})
  metadata.write(tmp_path, Metadata(config, {}))
  assert metadata.read(tmp_path).config == {"a": {"b": 1}}


def test_each_difference_is_named():
  found = Metadata({}, {"activation": "gelu", "tokenizer": {"sha256": "ab", "length": 77}})
  expected = Metadata({}, {"activation": "quick_gelu", "tokenizer": {"sha256": "ab", "length": 32}})
  message = (
    "w means something else than this run: activation is 'gelu', expected 'quick_gelu'; tokenizer.length is 77, "
  )
  with pytest.raises(ValueError, match=re.escape(message)):
    metadata.check(found, expected, "w")
