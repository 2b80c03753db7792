import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.layers.conv import Conv


def numpy_convolution(x, kernel, stride):
  """The definition with k // 2 zeros on each side."""
  k = kernel.shape[0]
  x = np.pad(x, ((0, 0), ((k - 1) // 2, k // 2), ((k - 1) // 2, k // 2), (0, 0)))
  out = [(x.shape[i] - k) // stride + 1 for i in (1, 2)]
  y = np.zeros((len(x), *out, kernel.shape[-1]))
  for i in range(out[0]):
    for j in range(out[1]):
      part = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
      y[:, i, j] = np.tensordot(part, kernel, 3)
  return y


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_equals_the_definition(kernel, stride):
  module = Conv(5, kernel, stride, use_bias=True)
  x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
  params = jax.tree.map(jnp.asarray, module.init(jax.random.key(0), x)["params"])
  params = {"kernel": params["kernel"].unbox(), "bias": jnp.arange(5.0)}
  y = module.apply({"params": params}, x)
  np.testing.assert_allclose(y, numpy_convolution(x, np.asarray(params["kernel"]), stride) + np.arange(5), atol=1e-4)


@pytest.mark.slow
def test_groups_see_their_own_channels():
  module = Conv(6, 3, groups=2)
  x = jnp.ones((1, 4, 4, 4))
  variables = module.init(jax.random.key(0), x)
  y, z = (module.apply(variables, x.at[..., :2].set(value)) for value in (1.0, 5.0))
  np.testing.assert_array_equal(y[..., 3:], z[..., 3:])
  assert not np.allclose(y[..., :3], z[..., :3])


def test_groups_that_do_not_divide_are_refused():
  with pytest.raises(ValueError, match="groups = 2 do not divide 3 and 4 channels"):
    Conv(4, groups=2).init(jax.random.key(0), jnp.ones((1, 4, 4, 3)))
