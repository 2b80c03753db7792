"""SiglipModel folders without torch; tests/parity compares their numbers with transformers'."""

import json

import jax
import numpy as np
import pytest

from vljax import interop
from vljax.interop import siglip
from vljax.interop.imported import Imported
from vljax.models import dual_encoder


@pytest.fixture
def folder(tmp_path):
  config = dict(
    image=dict(variant="test", pool="map", norm_pre=False, patch_bias=True, activation="gelu_tanh", epsilon=1e-6),
    text=dict(variant="test", pool="last", causal=False, activation="gelu_tanh", epsilon=1e-6),
    dim=32,
    **siglip.FIELDS,
  )
  model = dual_encoder.build_from(**config)
  params = jax.tree.map(
    lambda x: np.asarray(x.unbox() if hasattr(x, "unbox") else x),
    model.init(jax.random.key(0), *model.inputs())["params"],
    is_leaf=lambda x: hasattr(x, "unbox"),
  )
  half = (0.5,) * 3
  preprocess = dict(size=16, mean=half, std=half, interpolation="bicubic", resize_mode="squash")
  interop.save(tmp_path, Imported(config, params, preprocess, {}), "siglip")
  return tmp_path


def test_everything_comes_back(folder):
  found = interop.load(folder)
  assert interop.detect(folder) == "siglip"
  assert found.model().image.epsilon == 1e-6
  assert found.preprocess["resize_mode"] == "squash"
  assert found.notes == [f"{folder} brings neither tokenizer.json nor spiece.model: texts must come as ids"]
  image, tokens = found.model().inputs(2)
  for z in found.model().apply({"params": found.params}, image + 0.3, tokens + 5):
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
  ("part", "fields", "message"),
  [
    ("vision_config", dict(num_channels=4), "vision_config.num_channels = 4, which vljax has no model for; legal: 3"),
    ("text_config", dict(projection_size=8), "text_config.projection_size = 8, .*legal: 32"),
    ("text_config", dict(hidden_act="gulu"), "text_config.hidden_act in .* 'gulu'; did you mean 'gelu'"),
  ],
)
def test_a_config_that_vljax_has_no_model_for(folder, part, fields, message):
  file = folder / "config.json"
  content = json.loads(file.read_text())
  content[part] |= fields
  file.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=message):
    interop.load(folder)


def test_a_clip_has_no_place_in_it(tmp_path):
  model = dual_encoder.build("test")
  params = jax.tree.map(np.zeros_like, {})
  config = dict(image=dict(variant="test"), text=dict(variant="test"), dim=model.dim)
  preprocess = dict(size=16, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", resize_mode="shortest")
  with pytest.raises(ValueError, match=r"the format siglip cannot hold image.pool = 'cls'.*scores without a bias"):
    interop.save(tmp_path / "x", Imported(config, params, preprocess, {}), "siglip")
  assert not (tmp_path / "x").exists()
