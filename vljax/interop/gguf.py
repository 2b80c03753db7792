"""Language models of the LLaMA kind in GGUF files, with their tokenizers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax.data.tokenizers import byte_bpe
from vljax.interop import gguf_reader, language_configs, names
from vljax.interop.gguf_reader import SUFFIX, File
from vljax.interop.language_models import LM, Family
from vljax.interop.tower import Tower
from vljax.models import decoder
from vljax.models.decoder import Decoder

FAMILY = Family(
  language_configs.LLAMA, "",
  dict(
    token="token_embd", blocks="blk", norm_1="attn_norm", norm_2="ffn_norm", query="attn_q", key="attn_k",
    value="attn_v", out="attn_output", gate="ffn_gate", up="ffn_up", down="ffn_down", norm_post="output_norm",
    head="output",
  ),
)  # fmt: skip

SPLITS = {"smollm": "digits", "gpt-2": "gpt2", "default": "gpt2"}
"""llama.cpp's `tokenizer.ggml.pre` to a split of `byte_bpe`."""

CONTROL = 3
"""The `tokenizer.ggml.token_type` of tokens that are found whole in a text."""

MISSING = object()


def is_gguf(path: epath.PathLike) -> bool:
  """Whether a path names a GGUF file."""
  return epath.Path(path).suffix == SUFFIX


def load(path: epath.PathLike) -> Tower:
  """Read a file; quantized weights become float32.

  Raises:
    FileNotFoundError: it does not exist.
    ValueError: it is broken, holds another kind of model, or one with settings that no Decoder has.
  """
  path = epath.Path(path)
  file, where = gguf_reader.read(path), str(path)
  config = _config(file, where)
  model = decoder.build(**config)
  state = {name: _arranged(name, tensor.array(), model, where) for name, tensor in file.tensors.items()}
  params = names.to_ours(FAMILY.table(model), state, {LM: model}, where)
  notes: list[str] = []
  tokenizer = _tokenizer(file.metadata, model.length, where, notes)
  return Tower(LM, config, params, tokenizer=tokenizer, notes=notes).check(model, where)


def _config(file: File, where: str) -> dict[str, Any]:
  metadata = file.metadata
  _only(metadata, "general.architecture", "llama", where, MISSING)
  get = lambda key, kind, usual=MISSING: _get(metadata, f"llama.{key}", kind, where, usual)
  _only(metadata, "llama.rope.scaling.type", "none", where, "none")
  _only(metadata, "llama.expert_count", 0, where, 0)
  if "rope_freqs.weight" in file.tensors:
    raise ValueError(f"{where}: rope_freqs.weight scales rotary frequencies, which vljax has no model for")
  if "token_embd.weight" not in file.tensors:
    raise ValueError(f"{where}: the tensor 'token_embd.weight' is missing")
  width, heads = get("embedding_length", int), get("attention.head_count", int)
  if heads < 1 or width % heads:
    raise ValueError(f"{where}: {heads} heads for a width of {width}")
  dim = get("attention.key_length", int, width // heads)
  return dict(
    vocab=file.tensors["token_embd.weight"].shape[0],
    length=get("context_length", int),
    width=width,
    depth=get("block_count", int),
    heads=heads,
    kv_heads=get("attention.head_count_kv", int, heads),
    head_dim=dim,
    mlp=get("feed_forward_length", int),
    norm="rms",
    positions="rotary",
    rotary_base=get("rope.freq_base", float, 10_000.0),
    rotary_fraction=get("rope.dimension_count", int, dim) / dim,
    activation="silu",
    gated=True,
    attention_bias="blk.0.attn_q.bias" in file.tensors,
    mlp_bias=False,
    tied="output.weight" not in file.tensors,
    epsilon=get("attention.layer_norm_rms_epsilon", float),
  )


def _arranged(name: str, array: np.ndarray, model: Decoder, where: str) -> np.ndarray:
  """llama.cpp turns neighbors, (0, 1), (2, 3), and so mixes the halves of queries and keys; here they part again."""
  if ".attn_q." not in name and ".attn_k." not in name:
    return array
  heads: int = model.heads if ".attn_q." in name else model.kv_heads or model.heads
  if array.shape[0] % (2 * heads):
    raise ValueError(f"{where}: {name} of shape {array.shape} does not fit {heads} heads")
  return array.reshape(heads, -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def _tokenizer(metadata: Mapping[str, Any], length: int, where: str, notes: list[str]) -> dict[str, Any]:
  """The options of `tokenizers.build`, or a note where the file's tokenizer is of another kind."""
  kind, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "default")
  if kind != "gpt2" or split not in SPLITS:
    notes.append(f"{where} has a tokenizer {kind!r}, {split!r}, which vljax does not read: texts must come as ids")
    return {}
  get = lambda key, kind, usual=MISSING: _get(metadata, f"tokenizer.ggml.{key}", kind, where, usual)
  tokens, merges = get("tokens", list), get("merges", list)
  types = np.asarray(metadata.get("tokenizer.ggml.token_type", []))
  ids = {short: get(f"{short}_token_id", int, 0) for short in ("bos", "eos")}
  if len(types) not in (0, len(tokens)) or not all(0 <= i < len(tokens) for i in ids.values()):
    raise ValueError(f"{where}: {len(tokens)} tokens, {len(types)} types of tokens, special ids {ids}")
  special = [token for token, type in zip(tokens, types, strict=False) if type == CONTROL]
  ends = {short: tokens[i] for short, i in ids.items()}
  content = byte_bpe.tokenizer_json(
    {token: i for i, token in enumerate(tokens)},
    [tuple(merge.split(" ", 1)) for merge in merges],
    split=SPLITS[split],
    begin=ends["bos"] if get("add_bos_token", bool, False) else None,
    special=special,
  )
  return dict(kind="hf_json", content=content, length=length, **ends)


def _get(metadata: Mapping[str, Any], key: str, kind: type, where: str, usual: Any = MISSING) -> Any:
  value = metadata.get(key, usual)
  if value is MISSING:
    raise ValueError(f"{where}: the key {key!r} is missing")
  if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
    raise ValueError(f"{where}: {key} = {str(value)[:60]!r} is of type {type(value).__name__}; legal: {kind.__name__}")
  return value


def _only(metadata: Mapping[str, Any], key: str, legal: Any, where: str, usual: Any) -> None:
  found = _get(metadata, key, type(legal), where, usual)
  if found != legal:
    raise ValueError(f"{where}: {key} = {found!r}, which vljax has no model for; legal: {legal!r}")
