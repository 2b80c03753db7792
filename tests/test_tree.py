import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax import tree

NAMES = st.text("abcxyz_", min_size=1, max_size=4).filter(lambda name: name != tree.STACK)


def leaf(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@st.composite
def params(draw):
  """A parameter tree with plain leaves and one stack of 1 to 5 layers."""
  layers = draw(st.integers(1, 5))
  plain = draw(st.dictionaries(NAMES, st.integers(0, 99), min_size=1, max_size=3))
  stacked = draw(st.dictionaries(NAMES, st.integers(0, 99), min_size=1, max_size=3))
  return {
    "head": {name: leaf(seed, 3) for name, seed in plain.items()},
    "image": {"blocks": {name: leaf(seed, layers, 2, 3) for name, seed in stacked.items()}},
  }


def equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


@given(params())
@settings(deadline=None, max_examples=50)
def test_round_trips(tree_):
  equal(tree.unflatten(tree.flatten(tree_)), tree_)
  equal(tree.stack(tree.unstack(tree_)), tree_)
  names = [n for name, x in tree.flatten(tree_).items() for n in tree.layer_names(name, x)]
  assert list(tree.unstack(tree_)) == names


@pytest.mark.slow
@given(params(), st.data())
@settings(deadline=None, max_examples=50)
def test_split_and_merge(tree_, data):
  names = list(tree.unstack(tree_))
  chosen = data.draw(st.sets(st.sampled_from(names), min_size=1))
  cut = tree.split(tree_, "|".join(map(re.escape, chosen)))
  live, held = cut.live(tree_), cut.held(tree_)
  equal(cut.merge(live, held), tree_)
  equal((~cut).merge(held, live), tree_)
  assert tree.count(live) + tree.count(held) == tree.count(tree_)
  assert tree.count(live) == sum(tree.unstack(tree_)[name].size for name in chosen)


@given(params(), st.data())
@settings(deadline=None, max_examples=20)
def test_shapes_split_as_arrays_do(tree_, data):
  name = data.draw(st.sampled_from(list(tree.unstack(tree_))))
  cut = tree.split(tree_, re.escape(name))
  shapes = lambda t: jax.tree.map(lambda x: (x.shape, x.dtype), t)
  assert shapes(cut.held(jax.eval_shape(lambda: tree_))) == shapes(cut.held(tree_))


def test_live_layers_take_the_dtype_that_both_sides_share():
  tree_ = {"blocks": {"w": leaf(0, 4, 2)}}
  cut = tree.split(tree_, "blocks/[13]/w")
  merged = cut.merge(cut.live(tree_), jax.tree.map(lambda x: x.astype(jnp.bfloat16), cut.held(tree_)))
  assert merged["blocks"]["w"].dtype == jnp.float32
  np.testing.assert_array_equal(merged["blocks"]["w"][1], tree_["blocks"]["w"][1])


def test_union_of_splits():
  tree_ = {"a": leaf(0, 2), "blocks": {"w": leaf(1, 3, 2)}}
  both = tree.split(tree_, "a") | tree.split(tree_, "blocks/1/w")
  assert both.live(tree_)["a"] is tree_["a"]
  np.testing.assert_array_equal(both.live(tree_)["blocks"]["w"], tree_["blocks"]["w"][1:2])


def test_regex_that_matches_nothing():
  with pytest.raises(
    ValueError, match=r"^the regex 'imgae/.\*' matches no parameter; the names begin: a, blocks/0/w$"
  ):
    tree.split({"a": leaf(0, 2), "blocks": {"w": leaf(1, 1, 2)}}, "imgae/.*")


def test_a_regex_must_match_the_whole_name():
  with pytest.raises(ValueError, match="matches no parameter"):
    tree.split({"image": {"kernel": leaf(0, 2)}}, "image")


def test_stack_that_lacks_a_layer():
  flat = {"x/blocks/0/w": leaf(0, 2), "x/blocks/3/w": leaf(1, 2)}
  with pytest.raises(ValueError, match=r"^x/blocks/w: layers \[1, 2\] are missing; found \[0, 3\]$"):
    tree.stack(flat)


def test_per_layer_values():
  tree_ = {"a": leaf(0, 2), "blocks": {"w": leaf(1, 3, 2)}}
  values = tree.split(tree_, ".*").per_layer(tree_, lambda name: len(name) + int("/2/" in name))
  assert values["a"] == 1
  np.testing.assert_array_equal(values["blocks"]["w"], [10, 10, 11])
  scaled = tree.broadcast_layers(values["blocks"]["w"], tree_["blocks"]["w"]) * tree_["blocks"]["w"]
  np.testing.assert_allclose(scaled[2], 11 * tree_["blocks"]["w"][2], rtol=1e-6)
  assert tree.broadcast_layers(3.0, tree_["a"]) == 3.0


def test_live_layers_keep_their_names():
  tree_ = {"a": leaf(0, 2), "x": {"blocks": {"w": leaf(1, 4, 2), "b": leaf(2, 4)}}}
  split = tree.split(tree_, r"x/blocks/[13]/w")
  assert tree.flatten(split.per_layer(tree_, lambda name: name)).keys() == {"x/blocks/w"}
  assert list(split.per_layer(tree_, lambda name: name)["x"]["blocks"]["w"]) == ["x/blocks/1/w", "x/blocks/3/w"]


def test_count_and_size():
  tree_ = {"a": leaf(0, 2, 3), "b": jax.ShapeDtypeStruct((4,), jnp.bfloat16), "c": None}
  assert (tree.count(tree_), tree.size(tree_)) == (10, 32)


@pytest.mark.parametrize(("where", "start"), [("", "the"), ("config.x", "config.x: the")])
def test_what_is_no_regex(where, start):
  with pytest.raises(ValueError, match=rf"^{start} regex 'te\(xt' is no regular expression: missing \), unterminated"):
    tree.pattern("te(xt", where)
  with pytest.raises(ValueError, match=r"the regex '\*' is no regular expression: nothing to repeat"):
    tree.split({"a": leaf(0, 2)}, "*")
