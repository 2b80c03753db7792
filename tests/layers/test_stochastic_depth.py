import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from vljax.layers.attention import Attention
from vljax.layers.block import Block, Stack, skip
from vljax.layers.patch import ConvPatch, PatchEmbed


def test_skipped_examples_are_zero_and_the_mean_stays():
  x = jnp.ones((4000, 2, 3))
  y = np.asarray(skip(jax.random.key(0), x, 0.25))
  rows = y.reshape(4000, -1)
  assert ((rows == 0).all(1) | np.isclose(rows, 4 / 3).all(1)).all()
  assert y.mean() == pytest.approx(1, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("unroll", [1, 3])
def test_drop_path_grows_from_zero_at_the_first_block(unroll):
  x = jax.random.normal(jax.random.key(1), (6, 4, 8))
  rngs = {"dropout": jax.random.key(2)}
  plain = Stack(Block(2, 16, parent=None), 3, unroll=unroll)
  params = plain.init(jax.random.key(0), x)
  run = lambda rate, **more: Stack(Block(2, 16, parent=None), 3, unroll=unroll, drop_path=rate).apply(
    params, x, **more
  )
  np.testing.assert_array_equal(run(0.9), plain.apply(params, x))
  np.testing.assert_array_equal(run(0.0, train=True, rngs=rngs), plain.apply(params, x))
  moved = np.abs(run(0.9, train=True, rngs=rngs) - plain.apply(params, x)).max((1, 2))
  assert (moved > 1e-3).any()
  one = Stack(Block(2, 16, parent=None), 1, drop_path=0.9)
  first = one.init(jax.random.key(0), x)
  np.testing.assert_allclose(one.apply(first, x, train=True, rngs=rngs), one.apply(first, x), atol=1e-6)
  with pytest.raises(ValueError, match="drop_path = 1.0; legal: 0 to below 1"):
    run(1.0)


@pytest.mark.slow
def test_a_learned_key_and_value_are_seen_by_every_query():
  x = jax.random.normal(jax.random.key(1), (2, 5, 8))
  module = Attention(2, bias_kv=True)
  params = meta.unbox(module.init(jax.random.key(0), x)["params"])
  assert params["key_token"].shape == params["value_token"].shape == (2, 4)
  loud = {**params, "key_token": params["key_token"], "value_token": params["value_token"] + 1}
  assert (np.abs(module.apply({"params": loud}, x) - module.apply({"params": params}, x)).max(-1) > 1e-4).all()
  with pytest.raises(ValueError, match="bias_kv takes no masks; found causal"):
    module.apply({"params": params}, x, causal=True)


@pytest.mark.slow
def test_patches_without_overlap_are_those_of_patch_embed():
  image = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
  params = PatchEmbed(4, 5).init(jax.random.key(1), image)
  found = ConvPatch((4, 4), 5).apply(params, image)
  np.testing.assert_allclose(found, PatchEmbed(4, 5).apply(params, image), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "patch"), [((9,), (4,)), ((7, 9), (3, 4)), ((4, 6, 5), (2, 3, 2))])
def test_the_product_is_the_convolution(shape, patch):
  x = jax.random.normal(jax.random.key(0), (2, *shape, 3))
  module = ConvPatch(patch, 5)
  params = meta.unbox(module.init(jax.random.key(1), x))
  space = "XYZ"[: len(shape)]
  numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
  expected = jax.lax.conv_general_dilated(x, params["params"]["kernel"], patch, "VALID", dimension_numbers=numbers)
  np.testing.assert_allclose(module.apply(params, x), expected.reshape(2, -1, 5), atol=1e-5)
  every = ConvPatch(patch, 5, (1,) * len(patch))
  dense = jax.lax.conv_general_dilated(
    x, params["params"]["kernel"], (1,) * len(patch), "VALID", dimension_numbers=numbers
  )
  np.testing.assert_allclose(every.apply(params, x), dense.reshape(2, -1, 5), atol=1e-5)
  with pytest.raises(ValueError, match="do not fit an input"):
    module.grid(shape[:-1])
