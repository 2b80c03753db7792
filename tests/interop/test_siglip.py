"""SiglipModel folders without torch; tests/parity compares their numbers with transformers'."""

import json

import jax
import numpy as np
import pytest

from vljax import interop
from vljax.data import tokenizers
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


@pytest.mark.slow
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


def in_json(folder, pieces, **config):
  model = dict(type="WordLevel", vocab={piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
  (folder / "tokenizer.json").write_text(json.dumps(dict(version="1.0", model=model, added_tokens=[])))
  if config:
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


C4 = ("<pad>", "</s>", "<unk>", "dog")
GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "</s>", "dog")


@pytest.mark.parametrize(
  ("pieces", "config", "wanted"),
  [
    (C4, {}, dict(eos="</s>", pad_id=1, clean="siglip")),
    (C4, dict(tokenizer_class="SiglipTokenizer", pad_token=dict(content="<pad>")), dict(pad_id=0, clean="siglip")),
    (GEMMA, {}, dict(eos="<eos>", pad_id=0, clean="siglip2")),
    (GEMMA, dict(tokenizer_class="GemmaTokenizer", eos_token="</s>"), dict(eos="</s>", pad_id=4, clean="siglip")),
    (C4, dict(tokenizer_class="PreTrainedTokenizerFast"), dict(eos=None, pad_id=0)),
    (GEMMA, dict(tokenizer_class="PreTrainedTokenizerFast", pad_token="<eos>"), dict(eos="<eos>", pad_id=1)),
    (C4, dict(tokenizer_class="T5TokenizerFast", do_lower_case=False), dict(eos=None, pad_id=0)),
  ],
)
def test_a_tokenizer_json_pads_ends_and_cleans_as_published(folder, pieces, config, wanted):
  in_json(folder, pieces, **config)
  read = interop.load(folder)
  found = read.tokenizer
  assert {name: found.get(name) for name in wanted} == wanted
  assert ("clean" in found) == ("clean" in wanted)
  file = folder / "tokenizer_config.json"
  unknown = f"{file}: tokenizer_class = 'T5TokenizerFast', whose cleaning vljax does not know: texts are not cleaned"
  assert read.notes == ([unknown] if config.get("tokenizer_class") == "T5TokenizerFast" else [])
  assert tokenizers.build(**found).pad_id == found["pad_id"]


@pytest.mark.parametrize(
  ("pieces", "config", "message"),
  [
    (C4, dict(pad_token="<PAD>"), "tokenizer.json has no token '<PAD>', the pad_token of tokenizer_config.json"),
    (C4, dict(do_lower_case=False), "tokenizer_config.json: do_lower_case = False; legal: true"),
  ],
)
def test_a_tokenizer_that_is_refused(folder, pieces, config, message):
  in_json(folder, pieces, **config)
  with pytest.raises(ValueError, match=message):
    interop.load(folder)


def test_special_tokens_map_speaks_where_the_config_is_silent(folder):
  in_json(folder, GEMMA, tokenizer_class="GemmaTokenizer", eos_token="<eos>")
  (folder / "special_tokens_map.json").write_text(json.dumps(dict(eos_token="</s>", pad_token=dict(content="<unk>"))))
  found = interop.load(folder).tokenizer
  assert (found["eos"], found["pad_id"]) == ("<eos>", 3)


@pytest.mark.parametrize("clean", ["siglip", "siglip2", "lower"])
def test_a_tokenizer_json_comes_back(folder, tmp_path, clean):
  in_json(folder, C4)
  found = interop.load(folder)
  found.tokenizer = {**found.tokenizer, "clean": clean}
  lost = [f"{tmp_path}/b/tokenizer.json does not hold the cleaning 'lower'"] if clean == "lower" else []
  assert interop.save(tmp_path / "b", found, "siglip") == lost
  ours, again = (tokenizers.build(**options) for options in (found.tokenizer, interop.load(tmp_path / "b").tokenizer))
  assert again("dog").tolist() == ours("dog").tolist()
  assert (again("DOG").tolist() == ours("DOG").tolist()) == (not lost)


@pytest.mark.parametrize("kind", ["clip_bpe", "wordpiece"])
def test_a_tokenizer_that_is_no_siglips_has_no_place_in_it(folder, tmp_path, kind):
  found = interop.load(folder)
  found.tokenizer = dict(kind=kind, length=8)
  with pytest.raises(ValueError, match=f"the tokenizer '{kind}' .*'hf_json' or 'sentencepiece'; launch/convert"):
    interop.save(tmp_path / "a", found, "siglip")
  assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_a_sentencepiece_model_comes_back_where_it_cleans_as_siglips(folder, tmp_path):
  tokenizers.train_sentencepiece([f"a {c} thing" for c in "abcdefghijklm"], 20, tmp_path / "spm", byte_fallback=False)
  found = interop.load(folder)
  found.tokenizer = dict(kind="sentencepiece", path=str(tmp_path / "spm"), length=8)
  with pytest.raises(ValueError, match="'sentencepiece' with clean = None .*'siglip'; launch/convert.py --drop_token"):
    interop.save(tmp_path / "a", found, "siglip")
  assert not (tmp_path / "a").exists()
  found.tokenizer |= dict(clean="siglip", pad_id=1)
  assert interop.save(tmp_path / "b", found, "siglip") == []
  again = interop.load(tmp_path / "b").tokenizer
  assert {**again, "path": None, "length": 8} == {**found.tokenizer, "path": None}
