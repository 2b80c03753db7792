import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vljax import parallel
from vljax.checkpoint import partial


def tower(layers=3, width=4, value=0.0, use=np):
  kernel = value + use.arange(layers * width * 2, dtype=np.float32).reshape(layers, width, 2)
  return {"pos": use.full((5, width), value, np.float32), "blocks": {"mlp": {"up": {"kernel": kernel}}}}


def test_a_part_under_another_name():
  source = {"image": tower(value=7.0), "text": tower(value=8.0)}
  target = {"vision": tower(use=jnp), "head": jnp.zeros(3)}
  new, record = partial.transfer(target, source, "image/(.*)", "vision")
  np.testing.assert_array_equal(new["vision"]["pos"], source["image"]["pos"])
  np.testing.assert_array_equal(
    new["vision"]["blocks"]["mlp"]["up"]["kernel"], source["image"]["blocks"]["mlp"]["up"]["kernel"]
  )
  assert new["head"] is target["head"]
  assert record["leaves"]["vision/blocks/2/mlp/up/kernel"] == "image/blocks/2/mlp/up/kernel"
  assert len(record["leaves"]) == 4
  assert re.fullmatch(r"[0-9a-f]{64}", record["hash"])


def test_some_layers_keep_layout():
  mesh = parallel.make()
  target = tower(layers=5, width=8)
  target["blocks"]["mlp"]["up"]["kernel"] = jax.device_put(
    target["blocks"]["mlp"]["up"]["kernel"].astype(jnp.bfloat16), NamedSharding(mesh, PartitionSpec(None, "data"))
  )
  source = tower(layers=3, width=8, value=100.0)
  new, _ = partial.transfer(target, source, r"blocks/[12]/.*")
  old, kernel = target["blocks"]["mlp"]["up"]["kernel"], new["blocks"]["mlp"]["up"]["kernel"]
  assert kernel.sharding == old.sharding
  assert kernel.dtype == jnp.bfloat16
  np.testing.assert_array_equal(kernel[jnp.array([0, 3, 4])], old[jnp.array([0, 3, 4])])
  np.testing.assert_array_equal(kernel[1:3], source["blocks"]["mlp"]["up"]["kernel"][1:].astype(jnp.bfloat16))


def test_one_layer():
  new, _ = partial.transfer(tower(layers=1), tower(layers=1, value=3.0), "blocks/.*")
  np.testing.assert_array_equal(
    new["blocks"]["mlp"]["up"]["kernel"], tower(layers=1, value=3.0)["blocks"]["mlp"]["up"]["kernel"]
  )


def test_resize():
  calls = []

  def resize(name, x, shape):
    calls.append((name, x.shape, shape))
    return np.resize(x, shape)

  target = {**tower(), "pos": np.zeros((9, 4), np.float32)}
  new, _ = partial.transfer(target, tower(value=2.0), "pos", resize=resize)
  assert calls == [("pos", (5, 4), (9, 4))]
  assert (new["pos"] == 2).all()


def test_errors():
  with pytest.raises(
    ValueError, match="the regex 'vision/.*' matches no leaf of the source; its names begin: blocks/0"
  ):
    partial.transfer(tower(), tower(), "vision/.*")
  message = "the source leaf 'pos' has the shape (5, 6), the target 'pos' has (5, 4)"
  with pytest.raises(ValueError, match=re.escape(message)):
    partial.transfer(tower(), tower(width=6), "pos")
  with pytest.raises(ValueError, match="unknown target 'poss' of the source leaf 'poss'; did you mean 'pos'"):
    partial.transfer(tower(), {"poss": np.zeros(3)}, ".*")
  with pytest.raises(ValueError, match=r"unknown target 'blocks/2/mlp/up/kernel' of the source leaf"):
    partial.transfer(tower(layers=2), tower(layers=3), "blocks/.*")
  with pytest.raises(ValueError, match="the source leaves 'a/pos' and 'b/pos' both become 'pos'"):
    partial.transfer(tower(), {"a": {"pos": np.zeros(1)}, "b": {"pos": np.zeros(1)}}, "./(.*)")


def test_what_is_no_regex():
  with pytest.raises(ValueError, match=r"config.init\[0\] = .*: the regex 'te\(xt' is no regular expression: missing"):
    partial.initialize(tower(), [("clip", "te(xt", "")], lambda path: tower())


def test_entries_in_turn():
  sources = {"clip": {"image": tower(value=5.0)}, "bert": {"text": tower(value=6.0)}}
  target = {"image": tower(), "text": tower()}
  entries = [("clip", "image/.*", ""), ("bert", "text/(pos)", "text")]
  new, records = partial.initialize(target, entries, sources.__getitem__)
  assert new["image"]["pos"][0, 0] == 5
  assert new["text"]["pos"][0, 0] == 6
  assert new["text"]["blocks"]["mlp"]["up"]["kernel"][0, 0, 0] == 0
  assert [record["source"] for record in records] == ["clip", "bert"]
  assert records[1]["leaves"] == {"text/pos": "text/pos"}
  with pytest.raises(ValueError, match=r"config.init\[1\] = \('bert', 'image/.*', ''\): the regex"):
    partial.initialize(target, [entries[0], ("bert", "image/.*", "")], sources.__getitem__)
