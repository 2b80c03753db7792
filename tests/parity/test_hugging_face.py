"""transformers.CLIPModel with the same weights: features, logits, files both ways."""

import json

import numpy as np
import pytest

from vljax import interop
from vljax.data import tokenizers

pytestmark = pytest.mark.parity


def tiny(transformers, **options):
  text = dict(
    vocab_size=99, hidden_size=32, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=12, eos_token_id=98, bos_token_id=0, pad_token_id=1, **options,
  )  # fmt: skip
  vision = dict(
    hidden_size=48, intermediate_size=100, num_hidden_layers=3, num_attention_heads=3, image_size=32, patch_size=8
  )
  return transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)


def make(torch, transformers, folder, config, seed: int = 0):
  torch.manual_seed(seed)
  model = transformers.CLIPModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim < 2:
        parameter += 0.1 * torch.randn_like(parameter)
  model.save_pretrained(folder)
  return model


def features(torch, model, compared, tokens):
  ids = torch.tensor(tokens).long()
  with torch.no_grad():
    out = model(input_ids=ids, pixel_values=compared.pixels())
  return out.image_embeds, out.text_embeds


@pytest.mark.parametrize("eos", [2, 98])
@pytest.mark.parametrize("pad", [0, 98])
def test_tiny(torch, transformers, compare, tmp_path, eos, pad):
  model = make(torch, transformers, tmp_path, tiny(transformers))
  edit(tmp_path / "config.json", text_config=dict(eos_token_id=eos))
  model = transformers.CLIPModel.from_pretrained(tmp_path).eval()
  imported = interop.load(tmp_path)
  assert imported.config["text"]["pool"] == ("argmax" if eos == 2 else "eos")
  compared = compare(imported)
  tokens = compared.texts(np.random.default_rng(1), 4, pad)
  compared.assert_features(*features(torch, model, compared, tokens), tokens, atol=1e-5)


def edit(file, **parts):
  content = json.loads(file.read_text())
  for key, fields in parts.items():
    content[key] = {**content[key], **fields} if isinstance(fields, dict) else fields
  file.write_text(json.dumps(content))


@pytest.mark.parametrize("act", ["gelu", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu"])
def test_activations(torch, transformers, compare, tmp_path, act):
  config = tiny(transformers, hidden_act=act)
  model = make(torch, transformers, tmp_path, config)
  compared = compare(interop.load(tmp_path))
  compared.assert_features(*features(torch, model, compared, compared.tokens), atol=1e-5)


@pytest.mark.slow
def test_base_size(torch, transformers, compare, tmp_path):
  model = make(torch, transformers, tmp_path, transformers.CLIPConfig())
  imported = interop.load(tmp_path)
  assert imported.config["image"] == dict(
    image_size=224, patch=32, width=768, depth=12, mlp=3072, heads=12, activation="quick_gelu", pool="cls"
  )
  compared = compare(imported)
  compared.assert_features(*features(torch, model, compared, compared.tokens))


@pytest.mark.parametrize("sharded", [False, True])
def test_round_trip_is_bit_equal(torch, transformers, tmp_path, sharded):
  model = make(torch, transformers, tmp_path / "a", tiny(transformers))
  if sharded:
    model.save_pretrained(tmp_path / "a", max_shard_size="60KB")
    (tmp_path / "a/model.safetensors").unlink(missing_ok=True)
    assert (tmp_path / "a/model.safetensors.index.json").exists()
  interop.save(tmp_path / "b", interop.load(tmp_path / "a"), "hf")
  again = transformers.CLIPModel.from_pretrained(tmp_path / "b")
  ours, theirs = again.state_dict(), model.state_dict()
  assert ours.keys() == theirs.keys()
  assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
  for part in ("text_config", "vision_config"):
    a, b = (getattr(m.config, part).to_dict() for m in (model, again))
    for key in ("hidden_act", "num_attention_heads", "layer_norm_eps", "eos_token_id", "image_size", "patch_size"):
      assert a.get(key) == b.get(key)


def test_old_bin_files(torch, transformers, compare, tmp_path):
  """pytorch_model.bin with position_ids, in half precision."""
  model = make(torch, transformers, tmp_path, tiny(transformers)).half()
  (tmp_path / "model.safetensors").unlink()
  state = {**model.state_dict(), "text_model.embeddings.position_ids": torch.arange(12)[None]}
  torch.save(state, tmp_path / "pytorch_model.bin")
  imported = interop.load(tmp_path)
  assert imported.params["image"]["cls"].dtype == np.float32
  compared = compare(imported)
  compared.assert_features(*features(torch, model.float(), compared, compared.tokens), atol=1e-5)


def test_text_config_dict_goes_first(torch, transformers, tmp_path):
  make(torch, transformers, tmp_path, tiny(transformers))
  content = json.loads((tmp_path / "config.json").read_text())
  content["text_config_dict"] = {**content["text_config"], "hidden_act": "gelu"}
  (tmp_path / "config.json").write_text(json.dumps(content))
  assert transformers.CLIPConfig.from_pretrained(tmp_path).text_config.hidden_act == "gelu"
  assert interop.load(tmp_path).config["text"]["activation"] == "gelu"


def test_the_image_processor(torch, transformers, tmp_path):
  make(torch, transformers, tmp_path / "a", tiny(transformers))
  processor = transformers.CLIPImageProcessor(
    size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=[0.5, 0.4, 0.3], resample=2
  )
  processor.save_pretrained(tmp_path / "a")
  imported = interop.load(tmp_path / "a")
  assert imported.preprocess["mean"] == (0.5, 0.4, 0.3)
  assert imported.preprocess["interpolation"] == "bilinear"
  interop.save(tmp_path / "b", imported, "hf")
  again = transformers.CLIPImageProcessor.from_pretrained(tmp_path / "b")
  for key in ("size", "crop_size", "image_mean", "image_std", "resample", "do_center_crop"):
    assert getattr(again, key) == getattr(processor, key), key


def test_the_tokenizer(torch, transformers, tmp_path):
  config = tiny(transformers)
  config.text_config.vocab_size, config.text_config.eos_token_id = 49_408, 49_407
  make(torch, transformers, tmp_path / "a", config)
  imported = interop.load(tmp_path / "a")
  assert imported.tokenizer == dict(kind="clip_bpe", length=12)
  assert interop.save(tmp_path / "b", imported, "hf") == []
  theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path / "b")
  again = interop.load(tmp_path / "b")
  ours = tokenizers.build(**again.tokenizer)
  assert "path" in again.tokenizer
  for text in ("a photo of a dog", "  MULTI   space\n 123 can't", "Café, naïve!"):
    ids = theirs(text)["input_ids"]
    assert ours.encode(text) == ids
    assert tokenizers.build("clip_bpe").encode(text) == ids
