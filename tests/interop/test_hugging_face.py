"""Folders of CLIPModel: what they say, what they leave out, and what they cannot hold."""

import json

import numpy as np
import pytest

from tests.data.tokenizers.test_clip_bpe import in_json
from vljax import interop
from vljax.data import tokenizers
from vljax.data.tokenizers import clip_bpe
from vljax.interop import hugging_face, safetensors_reader


@pytest.mark.slow
@pytest.mark.parametrize(
  "options",
  [
    dict(text=dict(pool="eos", eos_id=39)),
    dict(image=dict(activation="gelu", heads=4, mlp=150), text=dict(activation="relu", heads=2, mlp=99)),
    dict(image=dict(activation="squared_relu"), text=dict(activation="gelu_tanh")),
    dict(preprocess=dict(mean=(0.5, 0.4, 0.3), interpolation="bilinear", resize_mode="squash")),
  ],
)
def test_round_trip(make, tmp_path, options):
  made = make(**options)
  assert interop.save(tmp_path / "x", made.imported, "hf") == [f"{tmp_path}/x holds no tokenizer files"]
  assert interop.detect(tmp_path / "x") == "hf"
  made.assert_equal(interop.load(tmp_path / "x"))
  made.assert_equal(interop.load(tmp_path / "x/model.safetensors"))


@pytest.mark.parametrize(("eos", "pool"), [(2, dict(pool="argmax")), (39, dict(pool="eos", eos_id=39))])
def test_both_ends_of_text(make, tmp_path, eos, pool):
  hugging_face.save(tmp_path, make(text=pool).imported)
  config = json.loads((tmp_path / "config.json").read_text())
  assert config["text_config"]["eos_token_id"] == eos
  text = interop.load(tmp_path).config["text"]
  assert {k: text[k] for k in pool} == pool


def edit(folder, change, name="config.json"):
  content = json.loads((folder / name).read_text())
  change(content)
  (folder / name).write_text(json.dumps(content))


def test_left_out_keys_are_transformers_defaults(make, tmp_path):
  hugging_face.save(tmp_path, make(text=dict(pool="eos", eos_id=39)).imported)
  edit(tmp_path, lambda c: [c["text_config"].pop(k) for k in ("hidden_act", "eos_token_id")])
  text = interop.load(tmp_path).config["text"]
  assert text["activation"] == "quick_gelu"
  assert text["eos_id"] == 49_407


def test_without_preprocessor_and_tokenizer_clips_own_are_used_and_noted(make, tmp_path):
  hugging_face.save(tmp_path, make(text=dict(vocab=49_408)).imported)
  (tmp_path / "preprocessor_config.json").unlink()
  found = interop.load(tmp_path)
  assert found.preprocess["mean"] == (0.48145466, 0.4578275, 0.40821073)
  assert found.tokenizer == dict(kind="clip_bpe", length=7)
  assert found.notes == [
    f"{tmp_path} has no preprocessor_config.json: the usual preprocessing of such a model is used",
    f"{tmp_path} has no tokenizer files: CLIP's tokenizer is used",
  ]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda c: c.update(model_type="siglip"), "config.json: model_type = 'siglip'; legal: 'clip'"),
    (lambda c: c["text_config"].update(hidden_act="gelu_10"), "unknown text_config.hidden_act in "),
    (
      lambda c: c["vision_config"].update(layer_norm_eps=1e-6),
      "vision_config.layer_norm_eps = 1e-06, which vljax has",
    ),
    (lambda c: c["vision_config"].update(image_size=224), "image image_size is 224, but the weights' shapes say 16"),
    (lambda c: c["text_config"].update(eos_token_id=[1, 2]), "text_config.eos_token_id = [1, 2]; legal: an id"),
    (lambda c: c["text_config"].update(num_attention_heads=3), "is no to_heads of this model"),
  ],
)
def test_configs_that_ask_for_something_else(make, tmp_path, change, message):
  hugging_face.save(tmp_path, make().imported)
  edit(tmp_path, change)
  with pytest.raises(ValueError, match=str(tmp_path)) as raised:
    interop.load(tmp_path, format="hf")
  assert message in str(raised.value)


@pytest.mark.parametrize(
  "change",
  [
    dict(size=224),
    dict(size={"shortest_edge": 20}),
    dict(crop_size={"height": 16, "width": 20}),
    dict(size={"height": 16, "width": 20}),
  ],
)
def test_preprocessors_of_another_size(make, tmp_path, change):
  hugging_face.save(tmp_path, make().imported)
  edit(tmp_path, lambda c: c.update(change), "preprocessor_config.json")
  with pytest.raises(ValueError, match=r"preprocessor_config.json: size = .* legal: 16 for both, the model's"):
    interop.load(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, {"shortest_edge": 16}])
@pytest.mark.parametrize("crop", [16, {"height": 16, "width": 16}])
def test_old_and_new_preprocessors(make, tmp_path, size, crop):
  made = make()
  hugging_face.save(tmp_path, made.imported)
  edit(tmp_path, lambda c: c.update(size=size, crop_size=crop), "preprocessor_config.json")
  assert interop.load(tmp_path).preprocess == made.imported.preprocess


def test_shards(make, tmp_path):
  made = make(text=dict(pool="eos", eos_id=39))
  hugging_face.save(tmp_path, made.imported)
  state = safetensors_reader.state_dict(tmp_path / "model.safetensors")
  (tmp_path / "model.safetensors").unlink()
  weight_map = {}
  for i, keys in enumerate(np.array_split(sorted(state), 3)):
    name = f"model-0000{i}-of-00003.safetensors"
    safetensors_reader.write(tmp_path / name, {str(k): state[str(k)] for k in keys})
    weight_map |= {str(k): name for k in keys}
  (tmp_path / "model.safetensors.index.json").write_text(json.dumps(dict(weight_map=weight_map)))
  made.assert_equal(interop.load(tmp_path))
  (tmp_path / "model-00001-of-00003.safetensors").unlink()
  with pytest.raises(FileNotFoundError, match="model-00001-of-00003.safetensors does not exist"):
    interop.load(tmp_path)


def test_a_folder_without_weights(make, tmp_path):
  hugging_face.save(tmp_path, make().imported)
  (tmp_path / "model.safetensors").unlink()
  with pytest.raises(FileNotFoundError, match="holds none of model.safetensors"):
    interop.load(tmp_path)


def test_truncated_weights(make, tmp_path):
  hugging_face.save(tmp_path, make().imported)
  data = (tmp_path / "model.safetensors").read_bytes()
  (tmp_path / "model.safetensors").write_bytes(data[:-100])
  with pytest.raises(ValueError, match=r"model.safetensors: truncated or no safetensors file"):
    interop.load(tmp_path)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (dict(image=dict(pool="mean")), "image.pool = 'mean' (its readers assume 'cls')"),
    (dict(image=dict(norm_pre=False)), "image.norm_pre = False (its readers assume True)"),
    (dict(text=dict(causal=False)), "text.causal = False (its readers assume True)"),
    (dict(text=dict(pool="last")), "text.pool = 'last' (its readers assume one of 'argmax', 'eos')"),
    (dict(text=dict(pool="eos", eos_id=2)), "text.eos_id = 2 (its readers assume pooling at the largest id)"),
    (
      dict(tokenizer=dict(kind="sentencepiece")),
      "the tokenizer 'sentencepiece' (its readers assume 'clip_bpe' or 'hf",
    ),
    (dict(preprocess=dict(resize_mode="longest")), "preprocess.resize_mode = 'longest' (its readers assume one of"),
  ],
)
def test_what_the_format_cannot_hold(make, tmp_path, options, message):
  with pytest.raises(ValueError, match="the format hf cannot hold") as raised:
    interop.save(tmp_path / "x", make(**options).imported, "hf")
  assert str(raised.value).startswith(f"{tmp_path}/x: the format hf cannot hold {message}")
  assert not (tmp_path / "x").exists()


def test_clip_tokenizer_files(make, tmp_path):
  try:
    clip_bpe.find()
  except FileNotFoundError as error:
    pytest.skip(str(error))
  made = make(text=dict(vocab=49_408), tokenizer=dict(kind="clip_bpe", length=7))
  assert interop.save(tmp_path, made.imported, "hf") == []
  assert interop.load(tmp_path).tokenizer == dict(kind="clip_bpe", path=str(tmp_path / "merges.txt"), length=7)
  vocabulary = json.loads((tmp_path / "vocab.json").read_text())
  assert len(vocabulary) == 49_408
  assert vocabulary["<|endoftext|>"] == 49_407
  assert vocabulary["dog</w>"] == 1929


@pytest.mark.slow
@pytest.mark.parametrize("format", ["hf", "open_clip"])
def test_the_folders_own_vocabulary_goes_first(make, tmp_path, monkeypatch, format):
  monkeypatch.delenv(clip_bpe.ENVIRONMENT, raising=False)
  monkeypatch.setattr(clip_bpe, "PACKAGES", ())
  interop.save(tmp_path, make(text=dict(vocab=49_408)).imported, format)
  assert interop.load(tmp_path).tokenizer == dict(kind="clip_bpe", length=7)
  file = tmp_path / "tokenizer.json"
  merges, content = in_json(list)
  file.write_text(content)
  found = interop.load(tmp_path)
  assert found.tokenizer == dict(kind="clip_bpe", path=str(file), length=7)
  assert not any("tokenizer" in note for note in found.notes)
  byte = clip_bpe.byte_chars().index
  texts = {"ab", "a"}
  ids = {text: tokenizers.build(**found.tokenizer).plain(text) for text in texts}
  assert ids["a"] == [256 + byte("a")]
  assert ids["ab"] == [byte("a"), 256 + byte("b")], "no merge makes an end of word here"
  file.write_text(in_json(list, ("[CLS]", "[SEP]"))[1])
  found = interop.load(tmp_path).tokenizer
  assert found == dict(kind="hf_json", path=str(file), length=7, eos=None, pad_id=0)
  (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]))
  assert interop.load(tmp_path).tokenizer == dict(kind="clip_bpe", path=str(tmp_path / "merges.txt"), length=7)


def test_a_tokenizer_json_keeps_the_end_of_its_texts(make, tmp_path):
  words = {word: i for i, word in enumerate(["<pad>", "[END]", "<unk>", "dog", "</s>"])}
  model = dict(type="WordLevel", vocab=words, unk_token="<unk>")
  content = json.dumps(dict(version="1.0", model=model, added_tokens=[])).encode()
  made = make(text=dict(pool="eos", eos_id=1), tokenizer=dict(kind="hf_json", content=content, eos="[END]", length=7))
  assert interop.save(tmp_path, made.imported, "hf") == []
  found = interop.load(tmp_path).tokenizer
  assert tokenizers.build(**found)("dog").tolist() == [[3, 1, 0, 0, 0, 0, 0]]
  edit(tmp_path, lambda c: c.update(eos_token="[END"), "tokenizer_config.json")
  with pytest.raises(ValueError, match=r"tokenizer.json has no token '\[END', the eos_token of tokenizer_config.json"):
    interop.load(tmp_path)
