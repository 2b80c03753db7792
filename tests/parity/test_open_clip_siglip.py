"""open_clip's SigLIP (CustomTextCLIP with a timm trunk) with the same weights; big_vision's files by its reader."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from vljax import interop
from vljax.data import tokenizers

pytestmark = pytest.mark.parity

NAME = "vit_base_patch16_siglip_224"
TEXT = dict(
  context_length=12, vocab_size=99, width=128, heads=4, layers=3, no_causal_mask=True, proj_bias=True,
  pool_type="last", norm_kwargs=dict(eps=1e-6), act_kwargs=dict(approximate="tanh"),
)  # fmt: skip
CONFIG = dict(
  embed_dim=128,
  init_logit_bias=-10,
  custom_text=True,
  vision_cfg=dict(image_size=32, timm_model_name=NAME, timm_model_pretrained=False, timm_pool="map", timm_proj="none"),
  text_cfg=TEXT,
)


@pytest.fixture(scope="module")
def model(torch, open_clip):
  """open_clip's own class around a small trunk of timm's own class, no two gains alike."""
  from timm.models import VisionTransformer

  torch.manual_seed(0)
  config = {name: value for name, value in CONFIG.items() if name != "custom_text"}
  small = dict(config, vision_cfg=dict(image_size=32, layers=1, width=64, patch_size=16))
  model = open_clip.CustomTextCLIP(**small)
  trunk = VisionTransformer(
    img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=2, mlp_ratio=3, class_token=False, global_pool="map",
    num_classes=0,
  )  # fmt: skip
  model.visual = torch.nn.Sequential()
  model.visual.trunk = trunk
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.05 * torch.randn_like(parameter)
    model.logit_scale.fill_(np.log(40.0))
  return model.eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
  from safetensors.torch import save_file

  folder = tmp_path_factory.mktemp("siglip")
  save_file(model.state_dict(), folder / "open_clip_model.safetensors")
  content = dict(model_cfg=CONFIG, preprocess_cfg=dict(mean=[0.5] * 3, std=[0.5] * 3, resize_mode="squash"))
  (folder / "open_clip_config.json").write_text(json.dumps(content))
  return folder


def test_features_and_logits(torch, compare, model, folder):
  imported = interop.load(folder)
  assert (imported.model().image.activation, imported.model().text.activation) == ("gelu", "gelu_tanh")
  compared = compare(imported)
  with torch.no_grad():
    image, text = model.visual(compared.pixels()), model.encode_text(torch.tensor(compared.tokens).long())
  compared.assert_features(image, text, atol=1e-4)
  bias = imported.model().apply({"params": imported.params}, method="offset")
  assert float(bias) == pytest.approx(float(model.logit_bias.detach()))


def test_there_and_back_is_bit_equal(folder, tmp_path, monkeypatch):
  from vljax.interop import timm_siglip

  monkeypatch.setitem(timm_siglip.WIDTHS, "tiny", 128)
  monkeypatch.setitem(timm_siglip.ACTIVATIONS, "vit_tiny_patch8_siglip_32", "gelu")
  interop.save(tmp_path, interop.load(folder), "open_clip")
  before, after = (load_file(f / "open_clip_model.safetensors") for f in (folder, tmp_path))
  assert before.keys() == after.keys()
  for name in before:
    np.testing.assert_array_equal(before[name], after[name], err_msg=name)
  written = json.loads((tmp_path / "open_clip_config.json").read_text())["model_cfg"]
  assert written["text_cfg"] == TEXT
  jax.tree.map(np.testing.assert_array_equal, interop.load(tmp_path).params, interop.load(folder).params)


def test_what_is_refused(folder, tmp_path):
  imported = interop.load(folder)
  with pytest.raises(ValueError, match="cannot hold an image tower of width 128, patch 8, size 32"):
    interop.save(tmp_path / "a", imported, "open_clip")
  content = json.loads((folder / "open_clip_config.json").read_text())
  content["model_cfg"]["vision_cfg"]["timm_model_name"] = NAME.replace("224", "225")
  for file in folder.iterdir():
    (tmp_path / file.name).symlink_to(file)
  (tmp_path / "open_clip_config.json").unlink()
  with pytest.raises(ValueError, match="gives no vision_cfg.timm_model_name, which alone tells the activation"):
    interop.load(tmp_path / "open_clip_model.safetensors", activation="gelu")
  (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
  with pytest.raises(ValueError, match="'vit_base_patch16_siglip_225'; did you mean 'vit_base_patch16_siglip_2"):
    interop.load(tmp_path)


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP2", "ViT-L-16-SigLIP2-512"])
def test_every_config_is_understood(open_clip, name):
  from vljax.interop import open_clip as reader
  from vljax.interop import timm_siglip

  config = open_clip.get_model_config(name)
  assert config["vision_cfg"]["timm_model_name"] in timm_siglip.ACTIVATIONS
  found = dict(image=dict(width=768), text=dict(width=768), dim=768, **timm_siglip.FIELDS)
  text = reader._config(config, found, None, "x")["text"]
  assert (text["pool"], text["causal"], text["epsilon"]) == ("last", False, 1e-6)


def test_big_vision_files(torch, open_clip, compare, folder, tmp_path):
  """What we write, read by open_clip's own reader of npz files."""
  from open_clip.convert import load_big_vision_weights
  from timm.models import VisionTransformer

  imported = interop.load(folder)
  tanh = {name: {**imported.config[name], "activation": "gelu_tanh"} for name in ("image", "text")}
  imported.config |= tanh
  interop.save(tmp_path / "siglip.npz", imported, "big_vision")
  config = dict(embed_dim=128, init_logit_bias=-10, vision_cfg=dict(image_size=32, layers=1, width=64, patch_size=16))
  model = open_clip.CustomTextCLIP(**config, text_cfg=TEXT)
  model.visual = torch.nn.Sequential()
  model.visual.trunk = VisionTransformer(
    img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=2, mlp_ratio=3, class_token=False, global_pool="map",
    num_classes=0, act_layer="gelu_tanh",
  )  # fmt: skip
  load_big_vision_weights(model.eval(), str(tmp_path / "siglip.npz"))
  compared = compare(interop.load(tmp_path / "siglip.npz"))
  with torch.no_grad():
    image, text = model.visual(compared.pixels()), model.encode_text(torch.tensor(compared.tokens).long())
  compared.assert_features(image, text, atol=1e-4)


@pytest.mark.parametrize("clean", ["canonicalize", None])
def test_strings_as_open_clips_tokenizer_reads_them(transformers, open_clip, folder, tmp_path, clean):
  pieces = ["<pad>", "</s>", "<unk>", "▁a", "▁dog", "▁Dog", "▁the", "▁river", "▁", *"abdeghiortv", ".", "_", "!", "D"]
  theirs = transformers.T5TokenizerFast(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0)
  theirs.pad_token = "</s>"
  theirs.save_pretrained(tmp_path)
  content = json.loads((folder / "open_clip_config.json").read_text())
  content["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "timm/ViT-B-16-SigLIP"
  options = {} if clean is None else {"clean": clean}
  content["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = options
  (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
  (tmp_path / "open_clip_model.safetensors").symlink_to(folder / "open_clip_model.safetensors")
  ours = tokenizers.build(**interop.load(tmp_path).tokenizer)
  texts = ["A Dog.", "a dog", " the_river!\n a  dog ", "", "a dog " * 20, "&lt;a"]
  wanted = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(texts).numpy()
  np.testing.assert_array_equal(ours(texts), wanted)
  assert (ours("A Dog.").tolist() == ours("a dog").tolist()) == (clean == "canonicalize")
  for name in ("tokenizer_config.json", "special_tokens_map.json"):
    (tmp_path / name).unlink(missing_ok=True)
  np.testing.assert_array_equal(tokenizers.build(**interop.load(tmp_path).tokenizer)(texts), wanted)
