import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from vljax import tree
from vljax.models import fitting, modality


def count(model):
  return sum(leaf.size for leaf in tree.flatten(fitting.abstract(model)).values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["video", "audio", "depth", "thermal", "imu"])
def test_test_variants_run_and_drop_only_in_training(name):
  model = modality.build(f"{name}-test")
  (x,) = model.inputs(3)
  x += jax.random.normal(jax.random.key(1), x.shape)
  params = meta.unbox(model.init(jax.random.key(0), x)["params"])
  run = lambda **more: model.apply({"params": params}, x, **more)
  feature = run()
  assert feature.shape == (3, 16)
  np.testing.assert_array_equal(feature, run(train=False, rngs={"dropout": jax.random.key(0)}))
  train = run(train=True, rngs={"dropout": jax.random.key(0)})
  assert np.allclose(train, feature) == (not (model.drop_path or model.dropout_head))


@pytest.mark.slow
def test_a_picture_is_a_clip_of_equal_frames():
  model = modality.build("video-test")
  picture = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  params = model.init(jax.random.key(0), picture)
  clip = jnp.stack([picture, picture], axis=1)
  np.testing.assert_allclose(model.apply(params, picture), model.apply(params, clip), atol=1e-6)
  with pytest.raises(ValueError, match=r"takes inputs of \(2, 8, 8, 3\) each; found \(3, 8, 8, 3\)"):
    model.apply(params, jnp.zeros((1, 3, 8, 8, 3)))


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="unknown ModalityTower variant 'audio-hug'.*audio-huge"):
    modality.build("audio-hug")
  with pytest.raises(ValueError, match=r"patches of \(6, 6\).*do not fit an input of \(16,\)"):
    modality.build("audio-test", shape=(16, 1))
  with pytest.raises(ValueError, match="'drop_paths'.*drop_path"):
    modality.build("audio-test", drop_paths=0.1)


# Sizes of the released towers by their published shapes: blocks 12 w^2 + 13 w, norms, a class token, positions, stem.
@pytest.mark.parametrize(
  ("name", "tokens", "stem", "bias_kv", "norms"),
  [
    ("video", 256 + 1, 2 * 14 * 14 * 3, 0, 2),
    ("audio", 12 * 19 + 1, 16 * 16, 2, 2),
    ("depth", 14 * 14 + 1, 16 * 16, 2, 2),
    ("thermal", 14 * 14 + 1, 16 * 16, 2, 2),
    ("imu", 250 + 1, 8 * 6, 2, 2),
  ],
)
def test_huge_towers_have_the_published_sizes(name, tokens, stem, bias_kv, norms):
  model = modality.build(f"{name}-huge")
  w = model.width
  block = 12 * w * w + 13 * w + bias_kv * w
  assert count(model) == model.depth * block + w * (2 * norms + 1 + tokens + stem)
