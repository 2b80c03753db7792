import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from vljax.models import bound, dual_encoder


@pytest.fixture(scope="module")
def made():
  encoders = {
    "depth": {"tower": {"variant": "depth-test"}, "scale_init": 5.0},
    "german": {"tower": {"kind": "text", "variant": "test"}, "scale_init": 4.0, "learned": True},
  }
  model = bound.build(dual_encoder.build("test"), encoders, 16)
  return model, meta.unbox(jax.jit(model.init)(jax.random.key(0), *model.inputs())["params"])


def test_parameters_lie_under_the_base_and_each_encoder(made):
  _, params = made
  assert set(params) == {"base", "encoders_depth", "encoders_german"}
  assert {"image", "text", "image_head", "text_head", "log_scale"} == set(params["base"])
  assert set(params["encoders_depth"]) == {"tower", "head"}
  assert set(params["encoders_german"]) == {"tower", "head", "log_scale"}


def test_scales_are_fixed_or_learned(made):
  model, params = made
  scale = lambda *name: float(model.apply({"params": params}, *name, method="scale"))
  assert scale("depth") == 5.0
  assert scale("german") == pytest.approx(4.0)
  assert scale() == pytest.approx(1 / 0.07)


@pytest.mark.slow
def test_several_clips_give_the_mean_of_their_unit_vectors(made):
  model, params = made
  clips = jax.random.normal(jax.random.key(1), (2, 3, 8, 8, 1))
  encode = lambda x: model.apply({"params": params}, "depth", x, method="encode")
  each = jnp.stack([encode(clips[:, i]) for i in range(3)])
  np.testing.assert_allclose(np.linalg.norm(each, axis=-1), 1, atol=1e-5)
  np.testing.assert_allclose(encode(clips), each.mean(0), atol=1e-5)


def test_unknown_kinds_and_fields_are_named():
  base = dual_encoder.build("test")
  with pytest.raises(ValueError, match="tower kind of 'x'.*'texts'.*text"):
    bound.build(base, {"x": {"tower": {"kind": "texts"}}}, 16)
  with pytest.raises(ValueError, match="'learnt' of Encoder.*learned"):
    bound.build(base, {"x": {"tower": {"variant": "depth-test"}, "learnt": True}}, 16)
