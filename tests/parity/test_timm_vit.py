"""timm's ViTs with the same random weights: features of each pooling, files both ways."""

import functools
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from vljax import interop
from vljax.interop import timm_vit
from vljax.models import dual_encoder

pytestmark = pytest.mark.parity

SMALL = dict(img_size=24, patch_size=8, embed_dim=128, depth=2, num_heads=2, mlp_ratio=3, num_classes=0)
KINDS = {
  "vit_base_patch16_224": {},
  "vit_base_patch16_clip_quickgelu_224": dict(pre_norm=True, act_layer="quick_gelu", eps=1e-5),
  "vit_base_patch32_siglip_256": dict(class_token=False, global_pool="map", act_layer="gelu_tanh"),
  "vit_base_patch16_siglip_gap_224": dict(class_token=False, global_pool="avg", fc_norm=False),
}
"""timm's name, from which a reader takes what weights do not tell, to what the name stands for."""


def build(torch, eps=1e-6, **options):
  from timm.models import VisionTransformer

  torch.manual_seed(0)
  model = VisionTransformer(**SMALL, **options, norm_layer=functools.partial(torch.nn.LayerNorm, eps=eps))
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.05 * torch.randn_like(parameter)
  return model.eval()


@pytest.fixture(params=KINDS)
def pair(request, torch, tmp_path):
  """(their model, a folder of the hub with its weights and its name)."""
  pytest.importorskip("timm")
  from safetensors.torch import save_file

  model = build(torch, **KINDS[request.param])
  save_file(model.state_dict(), tmp_path / "model.safetensors")
  told = dict(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], interpolation="bilinear", crop_pct=0.9, tag="augreg")
  (tmp_path / "config.json").write_text(json.dumps(dict(architecture=request.param, pretrained_cfg=told)))
  return model, tmp_path


def test_features_and_files_both_ways(torch, pair, tmp_path):
  model, folder = pair
  tower = interop.load_tower(folder)
  assert tower.preprocess["mean"] == (0.1, 0.2, 0.3)
  assert tower.preprocess["interpolation"] == "bilinear"
  assert "centre crop of 0.9" in tower.notes[0]
  ours = dual_encoder.build_tower("image", **tower.config)
  image = np.random.default_rng(0).normal(size=(2, 24, 24, 3)).astype(np.float32)
  with torch.no_grad():
    wanted = model(torch.tensor(image).permute(0, 3, 1, 2)).numpy()
  found = np.asarray(jax.jit(ours.apply)(tower.variables, image))
  np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
  timm_vit.save(tmp_path / "again.safetensors", tower)
  again = load_file(tmp_path / "again.safetensors")
  assert again.keys() == model.state_dict().keys()
  for name, array in model.state_dict().items():
    np.testing.assert_array_equal(again[name], array.numpy(), err_msg=name)


@pytest.mark.parametrize(
  "name", ["vit_tiny_patch16_224", "vit_base_patch32_clip_quickgelu_224", "vit_huge_patch14_224"]
)
def test_names_stand_for_the_settings_of_timms_own(torch, name):
  """Heads by the width, activation and epsilon by the name; timm builds it without weights."""
  timm = pytest.importorskip("timm")
  with torch.device("meta"):
    model = timm.create_model(name, num_classes=0)
  config = timm_vit.infer(dict(model.state_dict()), name)
  assert config["heads"] == model.blocks[0].attn.num_heads
  assert (config["depth"], config["image_size"]) == (len(model.blocks), model.patch_embed.img_size[0])
  activation = timm_vit._activation(name, {}, name)
  theirs = type(model.blocks[0].mlp.act).__name__.lower().replace("activation", "")
  assert theirs == activation.replace("_", "")
