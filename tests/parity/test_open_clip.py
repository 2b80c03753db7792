"""open_clip with the same weights: features, logits, folders and training checkpoints both ways."""

import json

import numpy as np
import pytest

from vljax import interop

pytestmark = pytest.mark.parity

TINY = dict(
  embed_dim=24,
  vision_cfg=dict(image_size=32, layers=2, width=48, head_width=16, mlp_ratio=2.3, patch_size=8),
  text_cfg=dict(context_length=12, vocab_size=99, width=32, heads=4, layers=3),
)


def build(torch, open_clip, config: dict, seed: int = 0):
  torch.manual_seed(seed)
  model = open_clip.CLIP(**config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim == 1:
        parameter += 0.1 * torch.randn_like(parameter)
  return model


def write(folder, model, config: dict, **preprocess) -> None:
  from safetensors.torch import save_file

  folder.mkdir(parents=True, exist_ok=True)
  save_file(model.state_dict(), folder / "open_clip_model.safetensors")
  preprocess = (
    dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], interpolation="bicubic", resize_mode="squash") | preprocess
  )
  (folder / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess)))


def features(torch, model, compared):
  with torch.no_grad():
    return model.encode_image(compared.pixels()), model.encode_text(torch.tensor(compared.tokens).long())


def changed(**parts) -> dict:
  config = {**TINY, **{k: v for k, v in parts.items() if not isinstance(v, dict)}}
  return config | {k: {**TINY[k], **v} for k, v in parts.items() if isinstance(v, dict)}


CONFIGS = {
  "gelu": TINY,
  "quick_gelu": changed(quick_gelu=True),
  "tanh": changed(vision_cfg=dict(act_kwargs={"approximate": "tanh"})),
  "no_ln_pre": changed(vision_cfg=dict(no_ln_pre=True)),
  "eos": changed(text_cfg=dict(pool_type="eos", eos_id=98)),
  "last": changed(text_cfg=dict(pool_type="last")),
  "no_causal_mask": changed(text_cfg=dict(no_causal_mask=True)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_tiny(torch, open_clip, compare, tmp_path, name):
  model = build(torch, open_clip, CONFIGS[name])
  write(tmp_path / "a", model, CONFIGS[name])
  imported = interop.load(tmp_path / "a")
  assert imported.preprocess["resize_mode"] == "squash"
  assert imported.preprocess["mean"] == (0.5, 0.5, 0.5)
  compared = compare(imported)
  compared.assert_features(*features(torch, model, compared), atol=1e-5)
  interop.save(tmp_path / "b", imported, "open_clip")
  again, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'b'}")
  ours, theirs = again.state_dict(), model.state_dict()
  assert ours.keys() == theirs.keys()
  assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
  compared.assert_features(*features(torch, again.eval(), compared), atol=1e-5)
  assert "mean=[0.5, 0.5, 0.5]" in str(preprocess) or "mean=(0.5, 0.5, 0.5)" in str(preprocess)


@pytest.mark.slow
def test_base_size(torch, open_clip, compare, tmp_path):
  config = open_clip.get_model_config("ViT-B-32")
  model = build(torch, open_clip, config)
  write(tmp_path, model, config)
  imported = interop.load(tmp_path)
  assert imported.config["image"]["activation"] == "gelu"
  assert imported.tokenizer == dict(kind="clip_bpe", length=77)
  compared = compare(imported)
  compared.assert_features(*features(torch, model, compared))


def test_training_checkpoint(torch, open_clip, compare, tmp_path):
  model = build(torch, open_clip, changed(vision_cfg=dict(width=64, head_width=64), text_cfg=dict(width=64, heads=1)))
  state = {f"module.{k}": v for k, v in model.state_dict().items()}
  optimizer = torch.optim.AdamW(model.parameters())
  content = dict(epoch=3, name="run", state_dict=state, optimizer=optimizer.state_dict())
  torch.save(content, tmp_path / "epoch_3.pt")
  with pytest.raises(ValueError, match="say which with activation='quick_gelu'"):
    interop.load(tmp_path / "epoch_3.pt")
  compared = compare(interop.load(tmp_path / "epoch_3.pt", activation="gelu"))
  compared.assert_features(*features(torch, model, compared), atol=1e-5)


def test_custom_text(torch, open_clip, compare, tmp_path):
  torch.manual_seed(0)
  model = open_clip.CustomTextCLIP(**TINY).eval()
  write(tmp_path, model, {**TINY, "custom_text": True})
  compared = compare(interop.load(tmp_path))
  compared.assert_features(*features(torch, model, compared), atol=1e-5)


@pytest.mark.parametrize("name", ["ViT-H-14", "ViT-g-14", "ViT-bigG-14", "ViT-L-14", "ViT-B-16-plus-240"])
def test_every_config_of_a_vit_is_understood(open_clip, name):
  """The dimensions that we infer from shapes, and the heads from the config, are open_clip's own."""
  from vljax.interop.open_clip import _config

  config = open_clip.get_model_config(name)
  vision, text = config["vision_cfg"], config["text_cfg"]
  found = dict(image=dict(width=vision["width"]), text=dict(width=text["width"]), dim=config["embed_dim"])
  ours = _config(config, found, None, "x")
  assert ours["image"]["heads"] == vision["width"] // vision.get("head_width", 64)
  assert _config({}, found, "gelu", "x")["image"]["heads"] == ours["image"]["heads"]
  assert ours["text"]["heads"] == text["heads"]


def test_mlp_ratios_survive(open_clip):
  from vljax.interop.open_clip import _mlp_ratio
  from vljax.models import vit

  for width in (768, 1280, 1408, 1664, 48):
    for mlp in (4 * width, 6144, 8192, 110, 4 * width + 1):
      tower = vit.build(image_size=32, patch=8, width=width, depth=1, heads=1, mlp=mlp)
      assert int(width * _mlp_ratio(tower).get("mlp_ratio", 4.0)) == mlp
  assert np.isfinite(_mlp_ratio(tower).get("mlp_ratio", 4.0))
