import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.checkpoint import packing


def test_kinds_of_leaves():
  tree = {
    "w": jnp.ones((2, 3), jnp.bfloat16),
    "key": jax.random.key(0),
    "n": 3,
    "on": True,
    "none": None,
    "np": np.int64(4),
  }
  arrays, index = packing.pack(tree)
  assert index == {
    "key": {"shape": [2], "dtype": "uint32", "key": "threefry2x32"},
    "n": {"value": 3},
    "np": {"shape": [], "dtype": "int64"},
    "on": {"value": True},
    "w": {"shape": [2, 3], "dtype": "bfloat16"},
  }
  assert sorted(arrays) == ["key", "np", "w"]
  back = packing.unpack(tree, arrays, index)
  assert jax.tree.structure(back) == jax.tree.structure(tree)
  assert back["on"] is True
  assert jax.random.key_impl(back["key"]) == jax.random.key_impl(tree["key"])


def test_abstract_leaves_have_the_same_index():
  tree = {"w": jnp.ones((2, 3)), "keys": jax.random.split(jax.random.key(0, impl="rbg"), 5)}
  _, index = packing.pack(tree)
  abstract = jax.eval_shape(lambda: tree)
  assert {name: packing.describe(name, leaf) for name, leaf in abstract.items()} == index


def test_many_differences_are_cut():
  index = {f"w{i}": {"shape": [i], "dtype": "float32"} for i in range(12)}
  with pytest.raises(ValueError, match=r"holds another tree .*w7 is missing \(expected float32\[7\]\); and 4 more$"):
    packing.compare({}, index, "here")
