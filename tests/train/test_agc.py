"""Which axes make a unit, by name and rank; tests/train/test_optim.py has the clipping inside an optimiser."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vljax import tree
from vljax.models import dual_encoder, fitting
from vljax.train import agc


@pytest.mark.parametrize(
  ("name", "rank", "axes"),
  [
    ("image/final/kernel", 4, (0, 1, 2)),
    ("image/stage_0/first/se/squeeze/kernel", 2, (0,)),
    ("text/blocks/attention/query/kernel", 3, (0,)),
    ("text/blocks/attention/value/kernel", 3, (0,)),
    ("text/blocks/attention/out/kernel", 3, (0, 1)),
    ("image/patch/kernel", 3, (0, 1)),  # a convolution over time
    ("text/blocks/attention/query/bias", 2, (0, 1)),
    ("image/final/gain", 1, (0,)),
    ("image/stage_0/first/skip_gain", 0, ()),
    ("text/token/embedding", 2, (1,)),
    ("text/pos", 2, (1,)),
    ("kernel", 4, (0, 1, 2)),
  ],
)
def test_axes_of_a_unit(name, rank, axes):
  assert agc.unit_axes(name, rank) == axes
  assert agc.unit_axes(name, rank, "element") == (() if rank < 2 or name.endswith("bias") else axes)


@pytest.mark.slow
def test_every_kernel_of_two_towers_has_a_unit_for_each_output():
  image, text = dict(tower="nfnet", variant="test"), dict(tower="bert", variant="test")
  model = dual_encoder.build_from(image=image, text=text, dim=16)
  layer = lambda name, leaf: leaf.shape[1:] if tree.layer_names(name, leaf) != (name,) else leaf.shape
  shapes = {name: layer(name, leaf) for name, leaf in tree.flatten(fitting.abstract(model)).items()}
  for name, shape in shapes.items():
    left = tuple(n for axis, n in enumerate(shape) if axis not in agc.unit_axes(name, len(shape)))
    if name.endswith("/kernel"):
      assert left == shapes.get(name.replace("kernel", "bias"), (16,)), name
    else:
      assert len(left) == name.endswith(("embedding", "pos")), name


@pytest.mark.slow
def test_where_nothing_is_stacked_or_headed_it_is_optax():
  rng = np.random.default_rng(0)
  shapes = {"conv": (3, 3, 4, 5), "dense": (6, 7), "vector": (9,)}
  params = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
  params["dense"] *= 1e-5  # under eps
  grads = {name: jnp.asarray(10.0 ** rng.integers(-4, 1, shape), jnp.float32) for name, shape in shapes.items()}
  theirs = optax.adaptive_grad_clip(0.03, eps=1e-3)
  wanted, _ = theirs.update(grads, theirs.init(params), params)
  for name, leaf in params.items():
    axes = agc.unit_axes("bias" if name == "vector" else f"{name}/kernel", leaf.ndim)
    np.testing.assert_allclose(agc.clip(grads[name], leaf, axes, 0.03, 1e-3), wanted[name], rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_it_keeps_the_dtype_and_gradients_of_zero():
  leaf = jnp.ones((4, 2), jnp.bfloat16)
  assert agc.clip(leaf, leaf, (0,), 0.1, 1e-3).dtype == jnp.bfloat16
  np.testing.assert_array_equal(agc.clip(jnp.zeros((4, 2)), leaf, (0,), 0.1, 1e-3), 0)
