import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath

from vljax.checkpoint import packing, storage


@pytest.fixture
def folder(tmp_path):
  arrays, index = packing.pack({"a": {"w": jnp.arange(6.0)}, "b": jnp.ones(2, jnp.int32)})
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
    writer.save(tmp_path / "tree", args=storage.args(arrays, storage.with_sums(arrays, index), note="x"))
  return epath.Path(tmp_path / "tree")


def test_some_leaves_of_it(folder):
  body = storage.read_index(folder)
  assert body["note"] == "x"
  found = storage.read_arrays(folder, {"a/w": np.empty(6, np.float32)}, body["leaves"])
  assert list(found) == ["a/w"]
  np.testing.assert_array_equal(found["a/w"], np.arange(6.0))
  assert storage.read_arrays(folder, {}, body["leaves"]) == {}


def test_a_wrong_checksum_names_the_leaf(folder):
  leaves = storage.read_index(folder)["leaves"]
  leaves["b"]["sum"] += 1
  with pytest.raises(storage.Damaged, match="tree: the checksum of b is wrong$"):
    storage.read_arrays(folder, {"a/w": np.empty(6, np.float32), "b": np.empty(2, np.int32)}, leaves)
