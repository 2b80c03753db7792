import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vljax import parallel


@pytest.fixture
def make_state():
  """A function of (mesh config, seed, devices) that makes a sharded state of every kind of leaf."""

  def make(config=None, seed=0, devices=None):
    mesh = parallel.make(parallel.Mesh(**(config or {})), devices)
    put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
    random = np.random.default_rng(seed)
    weights = lambda *shape: random.normal(size=shape).astype(np.float32)
    return {
      "step": put(jnp.int32(seed)),
      "rng": put(jax.random.key(seed)),
      "params": {
        "cls": put(jnp.asarray(weights(16), jnp.bfloat16), ("data", "fsdp")),
        "blocks": {"mlp": {"up": {"kernel": put(weights(2, 16, 32), None, "fsdp", ("data", "tensor"))}}},
      },
      "opt": (put(weights(8, 16), "data", "fsdp"), None, {"mask": put(random.random(16) > 0.5)}),
      "extras": {"keys": put(jax.random.split(jax.random.key(seed + 1, impl="rbg"), 2)), "name": "w", "seen": seed},
    }

  return make


@pytest.fixture
def equal():
  """Whether two states have the same bits, wherever they lie."""

  def bits(x):
    if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      x = jax.random.key_data(x)
    return np.asarray(x)

  def same(a, b):
    leaves_a, leaves_b = jax.tree.flatten(a), jax.tree.flatten(b)
    return leaves_a[1] == leaves_b[1] and all(
      bits(x).dtype == bits(y).dtype and bits(x).tobytes() == bits(y).tobytes()
      for x, y in zip(leaves_a[0], leaves_b[0], strict=True)
    )

  return same


@pytest.fixture
def abstract():
  """The abstract tree of a state, with its shardings."""
  shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) if isinstance(x, jax.Array) else x
  return lambda state: jax.tree.map(shape, state)
