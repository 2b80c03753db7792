import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.layers.pool import AttentionPool


@pytest.fixture
def pool():
  module, x = AttentionPool(heads=2, mlp=16), jax.random.normal(jax.random.key(1), (3, 5, 8))
  return module, module.init(jax.random.key(0), x), x


def test_the_order_of_the_tokens_does_not_matter(pool):
  module, variables, x = pool
  np.testing.assert_allclose(module.apply(variables, x), module.apply(variables, x[:, ::-1]), atol=1e-6)


def test_equal_tokens_are_read_as_one(pool):
  """The weights of attention sum to one, so that it reads the value of the tokens whatever the query."""
  module, variables, x = pool
  same = jnp.broadcast_to(x[:, :1], x.shape)
  np.testing.assert_allclose(module.apply(variables, same), module.apply(variables, x[:, :1]), atol=1e-6)
