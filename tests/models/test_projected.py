import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.models import resnet
from vljax.models.projected import Projected, Projection


@pytest.mark.parametrize(
  ("options", "shapes"),
  [
    ({"kind": "none"}, []),
    ({"kind": "linear", "dim": 5}, [(12, 5)]),
    ({"layers": 2, "dim": 5}, [(12, 12), (12, 5)]),
    ({"layers": 3, "dim": 5}, [(12, 12), (12, 12), (12, 5)]),
  ],
)
def test_layers_of_a_head(options, shapes):
  """As in the released code: hidden layers of the feature's width, no bias in the last norm, nor beside any norm."""
  x = jax.random.normal(jax.random.key(1), (6, 12))
  variables = Projection(**options).init(jax.random.key(0), x)
  params = variables.get("params", {})
  assert [params[f"linear_{i}"]["kernel"].unbox().shape for i in range(len(shapes))] == shapes
  assert all(set(params[f"linear_{i}"]) == {"kernel"} for i in range(len(shapes)))
  assert [set(params[f"norm_{i}"]) for i in range(len(shapes))] == [{"scale", "bias"}] * (len(shapes) - 1) + [
    {"scale"}
  ] * bool(shapes)
  z, _ = Projection(**options).apply(variables, x, train=True, mutable="batch_stats")
  if shapes:
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)  # the last norm leaves no mean
  else:
    np.testing.assert_array_equal(z, x)


@pytest.mark.slow
def test_without_classes_there_is_no_classifier():
  model = Projected(resnet.build("test"), Projection(dim=4))
  image = jnp.ones((2, 16, 16, 3))
  variables = model.init(jax.random.key(0), image)
  z, logits = model.apply(variables, image)
  assert z.shape == (2, 4)
  assert logits is None
  assert set(variables["params"]) == {"backbone", "head"}
