"""Hugging Face's BertModel: a folder of `config.json`, weights, and the files of its tokenizer."""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax import config as config_lib
from vljax.interop import hugging_face, names, safetensors_reader, torch_reader
from vljax.interop.hugging_face import ACTIVATIONS, CONFIG, WEIGHTS
from vljax.interop.limits import Limits
from vljax.interop.names import QKV, Table, linear, norm, row
from vljax.interop.tower import Tower
from vljax.models import bert

VOCABULARY = "vocab.txt"
POOLING = "1_Pooling/config.json"
"""What Sentence-Transformers adds to a folder."""

POOLING_MODES = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}

DEFAULTS = {
  "vocab_size": 30_522, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
  "num_attention_heads": 12, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
  "layer_norm_eps": 1e-12, "pad_token_id": 0, "position_embedding_type": "absolute", "is_decoder": False,
}  # fmt: skip
"""What transformers takes for keys that a config leaves out."""

_OURS, _THEIRS = "text/blocks/{n}", "encoder.layer.{n}"

TABLE = Table(
  rows=(
    row("text/token/embedding", "embeddings.word_embeddings.weight"),
    row("text/pos", "embeddings.position_embeddings.weight"),
    row("text/segment/embedding", "embeddings.token_type_embeddings.weight"),
    *norm("text/norm_pre", "embeddings.LayerNorm"),
    *(
      r
      for x in QKV
      for r in linear(f"{_OURS}/attention/{x}", f"{_THEIRS}.attention.self.{x}", "to_heads", "head_bias")
    ),
    *linear(f"{_OURS}/attention/out", f"{_THEIRS}.attention.output.dense", "from_heads"),
    *norm(f"{_OURS}/norm_1", f"{_THEIRS}.attention.output.LayerNorm"),
    *linear(f"{_OURS}/mlp/up", f"{_THEIRS}.intermediate.dense"),
    *linear(f"{_OURS}/mlp/down", f"{_THEIRS}.output.dense"),
    *norm(f"{_OURS}/norm_2", f"{_THEIRS}.output.LayerNorm"),
    *linear("text/pooler", "pooler.dense"),
  ),
  dropped=(r"embeddings\.position_ids", r"cls\..*"),
)
NO_POOLER = Table(TABLE.rows, (*TABLE.dropped, r"pooler\..*"))


def load(path: epath.PathLike, *, pool: str | None = None) -> Tower:
  """Read a BertModel's folder; the heads of a BertForPreTraining are left out.

  Args:
    pool: of models.bert.POOLS; None takes what Sentence-Transformers' files say, else `pooler` where the weights have
      one, else `cls`.

  Raises:
    FileNotFoundError: no config or no weights.
    ValueError: another model type, a setting that vljax has no model for, a broken file, or a missing or unknown key.
  """
  folder = epath.Path(path)
  where = str(folder / CONFIG)
  content = hugging_face.read_json(folder / CONFIG)
  if content.get("model_type") != "bert":
    raise ValueError(f"{where}: model_type = {content.get('model_type')!r}; legal: 'bert'")
  file = hugging_face.find_weights(folder)
  reader = torch_reader if file.suffix == ".bin" else safetensors_reader
  state = {_modern(name): array for name, array in reader.state_dict(file).items()}
  notes: list[str] = []
  found = pool or _pool(folder, state, notes)
  config = {**_config({**DEFAULTS, **content}, where), "pool": found}
  model = bert.build(**config)
  absent = [name for name, has in (("text/pooler", found == "pooler"), ("text/segment", model.segments)) if not has]
  table = TABLE if found == "pooler" else NO_POOLER
  params = names.to_ours(table, state, {"text": model}, str(file), absent)
  tokenizer = {}
  if (folder / VOCABULARY).exists():
    lower = _lower(folder)
    tokenizer = dict(kind="wordpiece", path=str(folder), length=min(config["length"], 64), lower=lower)
  else:
    notes.append(f"{folder} has no {VOCABULARY}: texts must come as ids")
  return Tower("text", {"tower": "bert", **config}, params, tokenizer=tokenizer, notes=notes).check(model, str(file))


def is_bert(folder: epath.Path) -> bool:
  """Whether a folder holds the config.json of a BertModel."""
  return hugging_face.model_type(folder) == "bert"


def save(path: epath.PathLike, tower: Tower) -> list[str]:
  """Write a folder that `transformers.BertModel.from_pretrained` opens; returns what was left out, in sentences.

  Raises:
    ValueError: BertModel has no place for something; names it.
  """
  fields = {name: value for name, value in tower.config.items() if name != "tower"}
  model, limits = bert.build(**fields), Limits("bert", path)
  if not model.segments:
    limits.add("text.segments = 0", "one or more")
  theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
  content = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": model.vocab,
    "hidden_size": model.width,
    "intermediate_size": model.mlp or 4 * model.width,
    "num_hidden_layers": model.depth,
    "num_attention_heads": model.heads,
    "hidden_act": limits.one_of("text.activation", model.activation, theirs),
    "max_position_embeddings": model.length,
    "type_vocab_size": model.segments,
    "layer_norm_eps": model.epsilon,
    "pad_token_id": model.pad_id,
    "torch_dtype": "float32",
  }
  limits.close()
  absent = [] if model.pool == "pooler" else ["text/pooler"]
  state = names.to_theirs(TABLE, tower.weights, str(path), absent)
  folder = epath.Path(path)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n")
  safetensors_reader.write(folder / WEIGHTS[0], state)
  notes = [] if model.pool == "pooler" else [f"{folder} holds no pooler: the feature is pooled by {model.pool!r}"]
  return [*notes, *hugging_face.save_tokenizer(folder, tower.tokenizer)]


def _config(content: Mapping[str, Any], where: str) -> dict[str, Any]:
  for name, legal in (("position_embedding_type", "absolute"), ("is_decoder", False)):
    if content[name] != legal:
      raise ValueError(f"{where}: {name} = {content[name]!r}, which vljax has no model for; legal: {legal!r}")
  return dict(
    vocab=content["vocab_size"],
    length=content["max_position_embeddings"],
    width=content["hidden_size"],
    depth=content["num_hidden_layers"],
    heads=content["num_attention_heads"],
    mlp=content["intermediate_size"],
    segments=content["type_vocab_size"],
    activation=config_lib.choose(f"hidden_act in {where}", content["hidden_act"], ACTIVATIONS),
    pad_id=content["pad_token_id"] or 0,
    epsilon=content["layer_norm_eps"],
  )


def _modern(name: str) -> str:
  """A key without the `bert.` of models with heads, and TensorFlow's names of the norms' parameters replaced."""
  name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name.removeprefix("bert."))
  return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def _pool(folder: epath.Path, state: Mapping[str, np.ndarray], notes: list[str]) -> str:
  if (folder / POOLING).exists():
    content = hugging_face.read_json(folder / POOLING)
    said = [ours for ours, name in POOLING_MODES.items() if content.get(name)]
    if len(said) != 1:
      raise ValueError(f"{folder / POOLING}: legal: one of pooling_mode_cls_token and pooling_mode_mean_tokens")
    return said[0]
  pool = "pooler" if "pooler.dense.weight" in state else "cls"
  notes.append(f"{folder} does not say how a text becomes one feature: {pool!r} is taken")
  return pool


def _lower(folder: epath.Path) -> bool:
  file = folder / "tokenizer_config.json"
  return bool(hugging_face.read_json(file).get("do_lower_case", True)) if file.exists() else True
