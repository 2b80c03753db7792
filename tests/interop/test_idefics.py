"""IDEFICS folders without torch; tests/parity compares their numbers with transformers'."""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest

from vljax.interop import idefics, safetensors_reader, weights
from vljax.interop.seeing import Seeing
from vljax.models import fitting, flamingo

SHARED = dict(activation="silu", norm="rms", gated=True)
CONFIG = dict(
  vision=dict(tower="vit", variant="test", activation="gelu"),
  lm=dict(variant="test", kv_heads=None, extra=2, tied=False, epsilon=1e-6),
  resampler=dict(width=32, depth=2, heads=2, head_dim=8, latents=3, frames=0, activation="relu", qk_norm="layer"),
  xattn=dict(heads=4, every=2, mlp=48, qk_norm="rms", gate="tanh_vector", epsilon=1e-6, **SHARED),
  class_token=True,
)


def seeing(**changes):
  """A small model that such a folder can hold, but for the changes; every weight another number."""
  config = {**CONFIG, **{part: {**CONFIG[part], **own} for part, own in changes.items()}}
  shapes = nn.meta.unbox(fitting.abstract(flamingo.build_from(**config)))
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), shapes)
  preprocess = dict(size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), interpolation="bicubic", resize_mode="squash")
  return Seeing(config, params, preprocess=preprocess)


@pytest.mark.slow
def test_everything_comes_back(tmp_path):
  whole = seeing()
  assert idefics.save(tmp_path, whole) == [f"{tmp_path} holds no tokenizer files"]
  found = idefics.load(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, found.params, whole.params)
  inputs = whole.model().inputs()
  a, b = (jax.jit(x.model().apply)({"params": x.params}, *inputs) for x in (found, whole))
  np.testing.assert_array_equal(a, b)
  assert found.preprocess == whole.preprocess
  assert found.notes == [f"{tmp_path} holds no tokenizer files: texts must come as ids"]
  assert sorted(found.rest) == [f"model.vision_model.post_layernorm.{x}" for x in ("bias", "weight")]
  jax.tree.map(np.testing.assert_array_equal, weights.load(tmp_path), whole.params)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"model_type": "llama"}, "model_type = 'llama'; legal: 'idefics'"),
    ({"use_resampler": False}, "use_resampler = False, which vljax has no model for; legal: True"),
    ({"tie_word_embeddings": True}, "tie_word_embeddings = True"),
    ({"cross_layer_interval": 3}, "cross_layer_interval = 3 does not divide num_hidden_layers = 4"),
    ({"alpha_type": "flaot"}, "alpha_type in .*; did you mean 'float'"),
    (
      {"qk_layer_norms": False},
      "the key 'model.gated_cross_attn_layers.0.cross_attn.[qk]_layer_norm.weight' is unknown",
    ),
    ({"num_hidden_layers": 6}, "the key '.*' is missing"),
  ],
)
def test_another_model_is_refused(tmp_path, change, message):
  idefics.save(tmp_path, seeing())
  content = json.loads((tmp_path / "config.json").read_text())
  (tmp_path / "config.json").write_text(json.dumps({**content, **change}))
  with pytest.raises(ValueError, match=message):
    idefics.load(tmp_path)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(xattn=dict(placement="last")), "xattn.placement = 'last'"),
    (dict(xattn=dict(activation="squared_relu")), "xattn.activation = 'squared_relu'"),
    (dict(resampler=dict(frames=8)), "resampler.frames = 8"),
    (dict(resampler=dict(activation="gelu")), "resampler.activation = 'gelu'"),
    (dict(vision=dict(norm_pre=False)), "vision.norm_pre = False"),
  ],
)
def test_what_the_format_cannot_hold_is_named(tmp_path, changes, message):
  with pytest.raises(ValueError, match=f"the format idefics cannot hold .*{message}"):
    idefics.save(tmp_path, seeing(**changes))


def test_a_missing_array_is_named(tmp_path):
  idefics.save(tmp_path, seeing())
  file = tmp_path / "model.safetensors"
  state = safetensors_reader.state_dict(file)
  del state["model.perceiver_resampler.latents"]
  safetensors_reader.write(file, state)
  with pytest.raises(ValueError, match="the key 'model.perceiver_resampler.latents' is missing"):
    idefics.load(tmp_path)
