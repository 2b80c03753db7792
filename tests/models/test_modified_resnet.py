import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from vljax.models import modified_resnet
from vljax.models.modified_resnet import halve


@pytest.fixture(scope="module")
def tower():
  return modified_resnet.build("test")


@pytest.fixture(scope="module")
def variables(tower):
  return jax.jit(tower.init)(jax.random.key(0), *tower.inputs())


def test_sizes_of_variants():
  widths = {name: (m.width, m.grid) for name in modified_resnet.VARIANTS for m in [modified_resnet.build(name)]}
  assert widths == {
    "test": (64, 2), "RN50": (2048, 7), "RN101": (2048, 7), "RN50x4": (2560, 9), "RN50x16": (3072, 12),
    "RN50x64": (4096, 14),
  }  # fmt: skip


@pytest.mark.slow
def test_training_normalizes_by_the_batch_and_moves_the_statistics(tower, variables):
  image = jnp.asarray(np.random.default_rng(0).normal(3.0, 2.0, (4, 16, 16, 3)), jnp.float32)
  train = jax.jit(lambda x: tower.apply(variables, x, train=True, mutable="batch_stats"))
  trained, new = train(image)
  assert trained.shape == (4, tower.width)
  assert np.abs(new["batch_stats"]["stem_norm_0"]["mean"]).max() > 0
  assert jax.tree.structure(new["batch_stats"]) == jax.tree.structure(variables["batch_stats"])
  np.testing.assert_allclose(train(10 * image)[0], trained, atol=1e-3)
  evaluate = jax.jit(lambda x: tower.apply(variables, x))
  assert not np.allclose(evaluate(10 * image), evaluate(image), atol=0.1)


def test_halving_is_the_mean_of_squares():
  x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
  np.testing.assert_allclose(halve(x), x.reshape(2, 2, 2, 3, 2, 3).mean((2, 4)), rtol=1e-5, atol=1e-6)


def test_positions_are_resized_to_another_resolution(tower, variables):
  params = meta.unbox(variables["params"])
  larger = modified_resnet.build("test", image_size=32)
  adapted = modified_resnet.adapt_params(params, larger)
  assert adapted["pool"]["pos"].shape == (17, tower.width)
  np.testing.assert_array_equal(adapted["pool"]["pos"][0], params["pool"]["pos"][0])
  with pytest.raises(ValueError, match="group_0_0/conv_1/kernel"):
    modified_resnet.adapt_params(params, modified_resnet.build("test", base=16))


def test_inputs_that_do_not_fit(tower, variables):
  with pytest.raises(ValueError, match="takes images of 16 x 16 pixels; found 8 x 16"):
    tower.apply(variables, jnp.zeros((1, 8, 16, 3)))
  with pytest.raises(ValueError, match="strides of 8 in all do not divide an image of 20"):
    modified_resnet.build("test", image_size=20)
