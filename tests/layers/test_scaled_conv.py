"""The standardized convolution as a module: folded once it computes the same, stacked or alone."""

import jax
import numpy as np
import pytest
from flax.core import meta

from vljax.layers.scaled_conv import ScaledConv, Standardization
from vljax.ops import nfnet


@pytest.fixture(scope="module")
def case():
  draw = np.random.default_rng(0)
  x = draw.normal(size=(2, 8, 8, 8)).astype("f")
  module = ScaledConv(16, groups=2, standardization=Standardization(gamma=1.7))
  params = meta.unbox(module.init(jax.random.key(0), x))["params"]
  params = {**params, "gain": draw.normal(size=16).astype("f"), "bias": draw.normal(size=16).astype("f")}
  return x, module, params


def test_folded_kernels_give_the_same(case):
  x, module, params = case
  folded = module.standardization.fold({"a": {"conv": params}, "bias": params["bias"]})
  twin = module.clone(standardization=Standardization(gamma=1.7, folded=True))
  expected = module.apply({"params": params}, x)
  np.testing.assert_allclose(twin.apply({"params": folded["a"]["conv"]}, x), expected, atol=1e-5)
  np.testing.assert_array_equal(folded["bias"], params["bias"])
  kernel = nfnet.standardize(params["kernel"], params["gain"], eps="deepmind", gamma=1.7)
  np.testing.assert_allclose(folded["a"]["conv"]["kernel"], kernel, atol=1e-6)


def test_stacked_kernels_fold_layer_by_layer(case):
  _, module, params = case
  twice = {name: np.stack([leaf, 2 * leaf]) for name, leaf in params.items()}
  folded = module.standardization.fold(twice)["kernel"]
  for i in range(2):
    alone = module.standardization.fold({name: leaf[i] for name, leaf in twice.items()})["kernel"]
    np.testing.assert_allclose(folded[i], alone, atol=1e-5)
