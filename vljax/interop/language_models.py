"""Hugging Face's language models, a folder of `config.json` and weights: OPT, GPT-NeoX, LLaMA, MPT, GPT-2."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping

import numpy as np
from etils import epath

from vljax import config as config_lib
from vljax.interop import hf_tokenizer, hugging_face, names, safetensors_reader, torch_reader
from vljax.interop import language_configs as configs
from vljax.interop.hugging_face import CONFIG, WEIGHTS
from vljax.interop.limits import Limits
from vljax.interop.names import QKV, Row, Table, linear, norm, row
from vljax.interop.tower import Tower
from vljax.models import decoder
from vljax.models.decoder import Decoder

LM = "lm"
"""The place of a language model in a tree of weights."""


@dataclasses.dataclass(frozen=True)
class Family:
  """How one kind of model names and lays out what a Decoder has.

  Attributes:
    config: of its config.json.
    prefix: what a whole model's keys begin with, absent in files of the bare model.
    keys: our module, or several that are fused, to theirs; those of a block are below `blocks`.
    arrange: (key, array, heads) to the layout that the tables know, [out, in] and queries, keys, values one after the
      other; and, with `back`, from it.
    dropped: patterns of keys that carry nothing.
  """

  config: configs.Config
  prefix: str
  keys: Mapping[str, str]
  arrange: Callable[..., np.ndarray] = lambda key, array, heads, back=False: array
  dropped: tuple[str, ...] = ()

  def table(self, model: Decoder) -> Table:
    """The rows of a model's parameters."""
    keys, block = self.keys, f"{self.keys['blocks']}.{{n}}"
    ours = lambda name: f"{LM}/blocks/{{n}}/{name}"
    has = {"attention": model.attention_bias, "mlp": model.mlp_bias, "norm": model.norm == "layer"}
    only = lambda rows, bias: rows if bias else rows[:1]
    rows: list[Row] = [row(f"{LM}/token/embedding", f"{keys['token']}.weight")]
    rows += [row(f"{LM}/pos", f"{keys['pos']}.weight")] if model.positions == "learned" else []
    for name in ("embed_in", "embed_out") if model.embed_width not in (None, model.width) else ():
      rows += only(linear(f"{LM}/{name}", keys[name]), False)
    for name in ("norm_1", "norm_2"):
      rows += only(norm(ours(name), f"{block}.{keys[name]}"), has["norm"])
    if "qkv" in keys:
      fused = [[ours(f"attention/{x}/{leaf}") for x in QKV] for leaf in ("kernel", "bias")]
      both = [row(fused[0], f"{block}.{keys['qkv']}.weight", "to_heads")]
      both += [row(fused[1], f"{block}.{keys['qkv']}.bias", "head_bias")]
      rows += only(both, has["attention"])
    for name in () if "qkv" in keys else QKV:
      two = linear(ours(f"attention/{name}"), f"{block}.{keys[name]}", "to_heads", "head_bias")
      rows += only(two, has["attention"])
    for name in ("query_norm", "key_norm") if model.qk_norm else ():
      rows += only(norm(ours(f"attention/{name}"), f"{block}.{keys[name]}"), False)
    rows += only(linear(ours("attention/out"), f"{block}.{keys['out']}", "from_heads"), has["attention"])
    for name in ("gate", "up", "down") if model.gated else ("up", "down"):
      rows += only(linear(ours(f"mlp/{name}"), f"{block}.{keys[name]}"), has["mlp"])
    rows += only(norm(f"{LM}/norm_post", keys["norm_post"]), has["norm"]) if model.residual != "post" else []
    head = [] if model.tied else only(linear(f"{LM}/head", keys["head"]), False)
    unused = (rf"{re.escape(keys['head'])}\.weight",) if model.tied else ()
    return Table((*rows, *head), (*self.dropped, *unused))


def _transposed(key: str, array: np.ndarray, heads: int, back: bool = False) -> np.ndarray:
  """GPT-2's linear maps are [in, out]."""
  del heads, back
  return array.T if re.search(r"\.c_(attn|fc|proj)\.weight$", key) else array


def _interleaved(key: str, array: np.ndarray, heads: int, back: bool = False) -> np.ndarray:
  """GPT-NeoX's fused projection has query, key and value of head 0, then those of head 1, and so on."""
  if ".query_key_value." not in key:
    return array
  lead = (3, heads) if back else (heads, 3)
  return array.reshape(*lead, -1, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)


_OPT, _NEOX, _LLAMA, _MPT, _GPT2 = "model.decoder", "gpt_neox", "model", "transformer", "transformer"

FAMILIES: dict[str, Family] = {
  "opt": Family(
    configs.OPT, "model.",
    dict(
      token=f"{_OPT}.embed_tokens", pos=f"{_OPT}.embed_positions", embed_in=f"{_OPT}.project_in",
      embed_out=f"{_OPT}.project_out", blocks=f"{_OPT}.layers", norm_1="self_attn_layer_norm",
      norm_2="final_layer_norm", query="self_attn.q_proj", key="self_attn.k_proj", value="self_attn.v_proj",
      out="self_attn.out_proj", up="fc1", down="fc2", norm_post=f"{_OPT}.final_layer_norm", head="lm_head",
    ),
  ),
  "gpt_neox": Family(
    configs.GPT_NEOX, "gpt_neox.",
    dict(
      token=f"{_NEOX}.embed_in", blocks=f"{_NEOX}.layers", norm_1="input_layernorm",
      norm_2="post_attention_layernorm", qkv="attention.query_key_value", out="attention.dense",
      up="mlp.dense_h_to_4h", down="mlp.dense_4h_to_h", norm_post=f"{_NEOX}.final_layer_norm", head="embed_out",
    ),
    _interleaved,
    (r".*\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),
  ),
  "llama": Family(
    configs.LLAMA, "model.",
    dict(
      token=f"{_LLAMA}.embed_tokens", blocks=f"{_LLAMA}.layers", norm_1="input_layernorm",
      norm_2="post_attention_layernorm", query="self_attn.q_proj", key="self_attn.k_proj", value="self_attn.v_proj",
      out="self_attn.o_proj", gate="mlp.gate_proj", up="mlp.up_proj", down="mlp.down_proj",
      norm_post=f"{_LLAMA}.norm", head="lm_head",
    ),
    dropped=(r".*\.rotary_emb\.inv_freq",),
  ),
  "mpt": Family(
    configs.MPT, "transformer.",
    dict(
      token=f"{_MPT}.wte", blocks=f"{_MPT}.blocks", norm_1="norm_1", norm_2="norm_2", qkv="attn.Wqkv",
      query_norm="attn.q_ln", key_norm="attn.k_ln", out="attn.out_proj", up="ffn.up_proj", down="ffn.down_proj",
      norm_post=f"{_MPT}.norm_f", head="lm_head",
    ),
  ),
  "gpt2": Family(
    configs.GPT2, "transformer.",
    dict(
      token=f"{_GPT2}.wte", pos=f"{_GPT2}.wpe", blocks=f"{_GPT2}.h", norm_1="ln_1", norm_2="ln_2", qkv="attn.c_attn",
      out="attn.c_proj", up="mlp.c_fc", down="mlp.c_proj", norm_post=f"{_GPT2}.ln_f", head="lm_head",
    ),
    _transposed,
    (r".*\.attn\.(bias|masked_bias)",),
  ),
}  # fmt: skip
"""Their model_type to how it is read and written."""


def load(path: epath.PathLike) -> Tower:
  """Read a folder of one of FAMILIES.

  Raises:
    FileNotFoundError: no config or no weights.
    ValueError: another model type, a setting that vljax has no model for, a broken file, or a missing or unknown key.
  """
  folder = epath.Path(path)
  where = str(folder / CONFIG)
  content = hugging_face.read_json(folder / CONFIG)
  family = config_lib.choose(f"model_type in {where}", str(content.get("model_type")), FAMILIES)
  config = family.config.read(content, where)
  model = decoder.build(**config)
  file = hugging_face.find_weights(folder)
  reader = torch_reader if file.suffix == ".bin" else safetensors_reader
  state = {_whole(name, family): array for name, array in reader.state_dict(file).items()}
  try:
    state = {name: family.arrange(name, array, model.heads) for name, array in state.items()}
  except ValueError as error:
    raise ValueError(f"{file}: an array does not fit {model.heads} heads ({error})") from error
  params = names.to_ours(family.table(model), state, {LM: model}, str(file))
  notes: list[str] = []
  tokenizer = hf_tokenizer.find(folder, model.length, notes)
  return Tower(LM, config, params, tokenizer=tokenizer, notes=notes).check(model, str(file))


def is_language_model(folder: epath.Path) -> bool:
  """Whether a folder holds the config.json of one of FAMILIES."""
  return hugging_face.model_type(folder) in FAMILIES


def save(path: epath.PathLike, tower: Tower, family: str) -> list[str]:
  """Write a folder that transformers' class for causal language models of this family opens.

  Returns what was left out, in sentences.

  Raises:
    ValueError: an unknown family, or one that has no place for something; names it.
  """
  model, limits = decoder.build(**tower.config), Limits(family, path)
  found = config_lib.choose("family of language models", family, FAMILIES)
  content = {**found.config.write(model, limits), "model_type": family, "torch_dtype": "float32"}
  limits.tokenizer(tower.tokenizer, "hf_json", "clip_bpe", "wordpiece")
  limits.close()
  state = names.to_theirs(found.table(model), tower.weights, str(path))
  state = {name: found.arrange(name, array, model.heads, back=True) for name, array in state.items()}
  folder = epath.Path(path)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n")
  safetensors_reader.write(folder / WEIGHTS[0], state)
  return hugging_face.save_tokenizer(folder, tower.tokenizer, ended=False)


def _whole(name: str, family: Family) -> str:
  """A key with the prefix of whole models, which files of bare models lack."""
  bare = not name.startswith((family.prefix, family.keys["head"]))
  return f"{family.prefix}{name}" if bare else name
