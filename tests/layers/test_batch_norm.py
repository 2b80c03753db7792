import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import parallel
from vljax.layers import batch_norm
from vljax.layers.batch_norm import BatchNorm


@pytest.fixture
def x():
  return jnp.asarray(np.random.default_rng(0).normal(3, 2, (16, 4, 4, 5)).astype(np.float32))


def test_training_normalizes_the_batch_and_moves_the_statistics(x):
  module = BatchNorm(momentum=0.8)
  variables = module.init(jax.random.key(0), x)
  y, new = module.apply(variables, x, train=True, mutable="batch_stats")
  flat = np.asarray(x, np.float64).reshape(-1, 5)
  np.testing.assert_allclose(y.reshape(-1, 5), (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), atol=1e-5)
  np.testing.assert_allclose(new["batch_stats"]["mean"], 0.2 * flat.mean(0), rtol=1e-5)
  np.testing.assert_allclose(new["batch_stats"]["variance"], 0.8 + 0.2 * flat.var(0), rtol=1e-5)


def test_evaluation_reads_the_statistics_and_leaves_them(x):
  module = BatchNorm()
  variables = module.init(jax.random.key(0), x)
  statistics = {"mean": jnp.full(5, 3.0), "variance": jnp.full(5, 4.0)}
  y = module.apply({**variables, "batch_stats": statistics}, x)
  np.testing.assert_allclose(y, (x - 3) / np.sqrt(4 + 1e-5), rtol=1e-5, atol=1e-6)


def test_each_device_uses_the_statistics_of_all(x):
  module = BatchNorm()
  variables = module.init(jax.random.key(0), x)
  step = jax.jit(lambda x: module.apply(variables, x, train=True, mutable="batch_stats"))
  want = step(x)
  mesh = jax.make_mesh((4, 2, 1), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
  with parallel.use(mesh):
    where = parallel.sharding(mesh, parallel.DEFAULT, ("batch", None, None, None), x.shape)
    got = step(jax.device_put(x, where))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)


def test_without_scale_or_bias_there_is_no_such_parameter(x):
  params = BatchNorm(use_bias=False).init(jax.random.key(0), x)["params"]
  assert set(params) == {"scale"}


def test_weights_split_into_variables():
  weights = {"layer": 1, "batch_stats": {"layer": 2}}
  assert batch_norm.variables(weights) == {"params": {"layer": 1}, "batch_stats": {"layer": 2}}
  assert batch_norm.variables({"layer": 1}) == {"params": {"layer": 1}}
