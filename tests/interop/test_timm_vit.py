"""ViTs with timm's keys: what is inferred, what is refused, and where runs start from; tests/parity compares."""

import json

import flax
import jax
import numpy as np
import pytest

from vljax import interop
from vljax.interop import safetensors_reader, timm_vit, torchvision, weights
from vljax.interop.tower import Tower
from vljax.models import fitting, resnet, vit

CONFIG = dict(
  image_size=24, patch=8, width=64, depth=3, heads=1, mlp=96, activation="gelu", pool="cls", norm_pre=False,
  patch_bias=True, epsilon=1e-6,
)  # fmt: skip


def made(**options):
  config = {**CONFIG, **options}
  rng = np.random.default_rng(0)
  shapes = fitting.abstract(vit.build(**config))
  params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
  return Tower("image", {"tower": "vit", **config}, {"image": params})


@pytest.mark.parametrize(
  "options",
  [{}, dict(norm_pre=True, patch_bias=False, epsilon=1e-5), dict(pool="map"), dict(pool="mean"), dict(heads=4)],
)
def test_there_and_back(tmp_path, options):
  tower = made(**options)
  timm_vit.save(tmp_path / "net.safetensors", tower)
  found = timm_vit.load(tmp_path / "net.safetensors", activation="gelu", heads=options.get("heads"))
  assert found.config == tower.config
  assert "heads follow the width" in found.notes[0]
  jax.tree.map(np.testing.assert_array_equal, found.weights, tower.weights)
  assert not timm_vit.is_vit(torchvision.to_state({}))


def folder(tmp_path, architecture, **told):
  timm_vit.save(tmp_path / "model.safetensors", made())
  (tmp_path / "config.json").write_text(json.dumps(dict(architecture=architecture, pretrained_cfg=told)))
  return tmp_path


@pytest.mark.parametrize(
  ("architecture", "tag", "activation", "epsilon"),
  [
    ("vit_base_patch16_224", "augreg_in21k", "gelu", 1e-6),
    ("vit_base_patch32_clip_224", "laion2b", "gelu", 1e-5),
    ("vit_base_patch32_clip_quickgelu_224", "openai", "quick_gelu", 1e-5),
    ("vit_large_patch16_siglip_gap_512", "v2_webli", "gelu_tanh", 1e-6),
  ],
)
def test_timms_name_tells_what_weights_do_not(tmp_path, architecture, tag, activation, epsilon):
  tower = interop.load_tower(folder(tmp_path, architecture, tag=tag, crop_mode="squash"))
  assert (tower.config["activation"], tower.config["epsilon"]) == (activation, epsilon)
  assert tower.preprocess["resize_mode"] == "squash"
  assert tower.preprocess["mean"] == (0.5, 0.5, 0.5)
  assert "tells no mean" in tower.notes[0]


def test_an_activation_that_nothing_tells_is_refused(tmp_path):
  where = folder(tmp_path, "vit_base_patch32_clip_224", tag="openai")
  with pytest.raises(ValueError, match=r"'vit_base_patch32_clip_224' with the tag 'openai' does not tell QuickGELU"):
    interop.load_tower(where)
  assert interop.load_tower(where, activation="quick_gelu").config["activation"] == "quick_gelu"
  (where / "config.json").unlink()
  with pytest.raises(
    ValueError, match=r"there is no config.json beside it, and weights do not tell QuickGELU from GELU"
  ):
    interop.load_tower(where / "model.safetensors")
  with pytest.raises(ValueError, match=r"unknown architecture in .*'vit_base_patch16_siglip_225'"):
    interop.load_tower(folder(tmp_path, "vit_base_patch16_siglip_225"))


def test_what_no_vit_of_ours_is(tmp_path):
  timm_vit.save(tmp_path / "net.safetensors", made())
  state = safetensors_reader.state_dict(tmp_path / "net.safetensors")
  read = lambda state: timm_vit.from_state(state, where="here", activation="gelu")
  with pytest.raises(ValueError, match="here: the key 'blocks.0.ls1.gamma' is unknown"):
    read({**state, "blocks.0.ls1.gamma": np.ones(64)})
  with pytest.raises(ValueError, match="here: the key 'norm.weight' is missing"):
    read({key: x for key, x in state.items() if key != "norm.weight"})
  with pytest.raises(ValueError, match="10 image positions are no square of patches"):
    read({**state, "pos_embed": np.zeros((1, 11, 64))})
  with pytest.raises(ValueError, match="the tower 'resnet' has no place in a timm ViT"):
    timm_vit.save(tmp_path / "x.pt", Tower("image", {"tower": "resnet"}, {}))


def test_runs_start_from_a_file(tmp_path):
  """Its classifier is left out, and the activation is the config's."""
  timm_vit.save(tmp_path / "net.safetensors", made())
  state = safetensors_reader.state_dict(tmp_path / "net.safetensors")
  head = {"head.weight": np.ones((7, 64), np.float32), "head.bias": np.zeros(7, np.float32)}
  safetensors_reader.write(tmp_path / "net.safetensors", {**state, **head})
  found = weights.load(str(tmp_path / "net.safetensors"))
  jax.tree.map(np.testing.assert_array_equal, found, made().weights)


def test_a_resnet_is_a_tower_too(tmp_path):
  model = resnet.build(blocks=(1, 1), bottleneck=False, stem="cifar", image_size=32, num_classes=3)
  variables = jax.eval_shape(model.init, jax.random.key(0), *model.inputs())
  rng = np.random.default_rng(0)
  drawn = jax.tree.map(lambda x: rng.random(x.shape).astype(np.float32), flax.core.meta.unbox(dict(variables)))
  torchvision.save(tmp_path / "net.pth", {**drawn["params"], "batch_stats": drawn["batch_stats"]})
  tower = interop.load_tower(tmp_path / "net.pth")
  assert tower.config["tower"] == "resnet"
  assert "classifier" not in tower.weights["image"]
  jax.tree.map(np.testing.assert_array_equal, tower.weights["batch_stats"]["image"], drawn["batch_stats"])
