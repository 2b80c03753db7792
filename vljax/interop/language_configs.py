"""The config.json of Hugging Face's language models, to the fields of a Decoder and back."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vljax import config as config_lib
from vljax.interop.hugging_face import ACTIVATIONS
from vljax.interop.limits import Limits, same
from vljax.models import decoder
from vljax.models.decoder import Decoder

Content = Mapping[str, Any]

RUNTIME = ("dropout", "dtype", "remat", "unroll", "held", "attention", "parent", "name")
"""Fields of a Decoder that say how it runs, not what it computes."""


@dataclasses.dataclass(frozen=True)
class Config:
  """A family's config.json.

  Attributes:
    architecture: transformers' class.
    defaults: what transformers takes for keys that a config leaves out.
    fields: our field to their key, where the values are the same.
    fixed: our fields that have one value in the family.
    usual: their keys that have one legal value here.
    activation: their key of the activation; None: the family has one only.
    read_more: (their content, where) to the other fields of ours.
    write_more: the other keys of theirs.
  """

  architecture: str
  defaults: Content
  fields: Mapping[str, str]
  fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  usual: Content = dataclasses.field(default_factory=dict)
  activation: str | None = None
  read_more: Callable[[Content, str], dict[str, Any]] = lambda content, where: {}
  write_more: Callable[[Decoder], dict[str, Any]] = lambda model: {}

  def read(self, content: Content, where: str) -> dict[str, Any]:
    """The fields of a Decoder.

    Raises:
      ValueError: a setting that no Decoder has; names it.
    """
    content = {**self.defaults, **content}
    for key, legal in self.usual.items():
      only(content, key, legal, where)
    given = {ours: content[theirs] for ours, theirs in self.fields.items()}
    if self.activation is not None:
      what = f"{self.activation} in {where}"
      given["activation"] = config_lib.choose(what, content[self.activation], ACTIVATIONS)
    return {**self.fixed, **given, **self.read_more(content, where)}

  def write(self, model: Decoder, limits: Limits) -> dict[str, Any]:
    """The content for a model; what its reader would take for something else goes to `limits`."""
    full = meaning(model)
    content = {theirs: full[ours] for ours, theirs in self.fields.items()}
    if self.activation is not None:
      theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
      content[self.activation] = limits.one_of("activation", model.activation, theirs)
      if content[self.activation] is None:
        return content
    content = {"architectures": [self.architecture], **self.usual, **content, **self.write_more(model)}
    again = meaning(decoder.build(**self.read(content, limits.name)))
    for name, value in full.items():
      if not same(value, again[name]):
        limits.add(f"{name} = {value!r}", f"{again[name]!r}")
    return content


def meaning(model: Decoder) -> dict[str, Any]:
  """What a decoder computes: its fields with every default filled in, and those of unused switches at theirs."""
  fields = {f.name: f.default for f in dataclasses.fields(model) if f.name not in RUNTIME}
  rotary = ("rotary_fraction", "rotary_base", "interleaved")
  unused = [*(rotary if model.positions != "rotary" else ()), *(["position_offset"] * (model.positions != "learned"))]
  full = {name: default if name in unused else getattr(model, name) for name, default in fields.items()}
  filled = dict(
    kv_heads=model.heads, head_dim=model.width // model.heads, mlp=4 * model.width, embed_width=model.width
  )
  return {**full, **{name: value for name, value in filled.items() if full[name] is None}}


def only(content: Content, key: str, legal: Any, where: str) -> None:
  """Raises a ValueError if a key has another value than the one that a Decoder can have."""
  if content[key] != legal:
    raise ValueError(f"{where}: {key} = {content[key]!r}, which vljax has no model for; legal: {legal!r}")


def _rope(content: Content, where: str, base: str, fraction: float) -> dict[str, Any]:
  """Rotary positions as transformers 5 writes them, or older ones."""
  rope = content.get("rope_parameters") or content.get("rope_scaling") or {}
  kind = rope.get("rope_type", rope.get("type", "default"))
  if kind != "default":
    raise ValueError(f"{where}: rope_type = {kind!r}, which vljax has no model for; legal: 'default'")
  return dict(
    rotary_base=float(rope.get("rope_theta", content.get(base) or 10_000.0)),
    rotary_fraction=float(rope.get("partial_rotary_factor", content.get("rotary_pct", fraction))),
  )


def _opt(content: Content, where: str) -> dict[str, Any]:
  del where
  return dict(
    residual="pre" if content["do_layer_norm_before"] else "post",
    attention_bias=content["enable_bias"],
    mlp_bias=content["enable_bias"],
    embed_width=content["word_embed_proj_dim"] or content["hidden_size"],
  )


OPT = Config(
  "OPTForCausalLM",
  dict(
    vocab_size=50_272, hidden_size=768, num_hidden_layers=12, ffn_dim=3072, max_position_embeddings=2048,
    do_layer_norm_before=True, _remove_final_layer_norm=False, word_embed_proj_dim=None, num_attention_heads=12,
    activation_function="relu", enable_bias=True, layer_norm_elementwise_affine=True, tie_word_embeddings=True,
  ),
  dict(
    vocab="vocab_size", length="max_position_embeddings", width="hidden_size", depth="num_hidden_layers",
    heads="num_attention_heads", mlp="ffn_dim", embed_width="word_embed_proj_dim", tied="tie_word_embeddings",
  ),
  dict(positions="learned", position_offset=2),
  dict(_remove_final_layer_norm=False, layer_norm_elementwise_affine=True),
  "activation_function",
  _opt,
  lambda model: dict(do_layer_norm_before=model.residual == "pre", enable_bias=model.attention_bias),
)  # fmt: skip

GPT_NEOX = Config(
  "GPTNeoXForCausalLM",
  dict(
    vocab_size=50_432, hidden_size=6144, num_hidden_layers=44, num_attention_heads=64, intermediate_size=24_576,
    hidden_act="gelu", max_position_embeddings=2048, layer_norm_eps=1e-5, use_parallel_residual=True,
    attention_bias=True, tie_word_embeddings=False,
  ),
  dict(
    vocab="vocab_size", length="max_position_embeddings", width="hidden_size", depth="num_hidden_layers",
    heads="num_attention_heads", mlp="intermediate_size", attention_bias="attention_bias", epsilon="layer_norm_eps",
    tied="tie_word_embeddings",
  ),
  dict(positions="rotary"),
  {},
  "hidden_act",
  lambda content, where: dict(
    residual="parallel" if content["use_parallel_residual"] else "pre",
    **_rope(content, where, "rotary_emb_base", 0.25),
  ),
  lambda model: dict(
    use_parallel_residual=model.residual == "parallel",
    rotary_pct=model.rotary_fraction,
    rotary_emb_base=model.rotary_base,
  ),
)  # fmt: skip

LLAMA = Config(
  "LlamaForCausalLM",
  dict(
    vocab_size=32_000, hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=None, head_dim=None, hidden_act="silu", max_position_embeddings=2048, rms_norm_eps=1e-6,
    attention_bias=False, mlp_bias=False, tie_word_embeddings=False,
  ),
  dict(
    vocab="vocab_size", length="max_position_embeddings", width="hidden_size", depth="num_hidden_layers",
    heads="num_attention_heads", kv_heads="num_key_value_heads", head_dim="head_dim", mlp="intermediate_size",
    attention_bias="attention_bias", mlp_bias="mlp_bias", epsilon="rms_norm_eps", tied="tie_word_embeddings",
  ),
  dict(norm="rms", positions="rotary", gated=True),
  {},
  "hidden_act",
  lambda content, where: _rope(content, where, "rope_theta", 1.0),
  lambda model: dict(
    rope_theta=model.rotary_base,
    **({} if model.rotary_fraction == 1 else dict(rope_parameters=dict(
      rope_type="default", rope_theta=model.rotary_base, partial_rotary_factor=model.rotary_fraction))),
  ),
)  # fmt: skip

MPT_ATTENTION = dict(
  attn_type="multihead_attention", clip_qkv=None, softmax_scale=None, prefix_lm=False, qk_ln=False,
  attn_uses_sequence_id=False, alibi=True, alibi_bias_max=8,
)  # fmt: skip
"""What transformers takes for keys that MPT's attn_config leaves out: all but qk_ln have this value only."""


def _mpt(content: Content, where: str) -> dict[str, Any]:
  attention = {**MPT_ATTENTION, **(content["attn_config"] or {})}
  for key, legal in MPT_ATTENTION.items():
    if key != "qk_ln":
      only(attention, key, legal, f"{where}: attn_config")
  return dict(qk_norm=attention["qk_ln"])


MPT = Config(
  "MptForCausalLM",
  dict(
    vocab_size=50_368, d_model=2048, n_heads=16, n_layers=24, expansion_ratio=4, max_seq_len=2048,
    layer_norm_epsilon=1e-5, attn_config=None, logit_scale=None, no_bias=True, tie_word_embeddings=True,
  ),
  dict(
    vocab="vocab_size", length="max_seq_len", width="d_model", depth="n_layers", heads="n_heads",
    epsilon="layer_norm_epsilon", tied="tie_word_embeddings",
  ),
  dict(norm="layer_without_bias", positions="alibi", attention_bias=False, mlp_bias=False, activation="gelu"),
  dict(logit_scale=None, no_bias=True, expansion_ratio=4),
  None,
  _mpt,
  lambda model: dict(attn_config=MPT_ATTENTION | {"qk_ln": model.qk_norm}),
)  # fmt: skip

GPT2 = Config(
  "GPT2LMHeadModel",
  dict(
    vocab_size=50_257, n_positions=1024, n_embd=768, n_layer=12, n_head=12, n_inner=None,
    activation_function="gelu_new", layer_norm_epsilon=1e-5, scale_attn_weights=True,
    scale_attn_by_inverse_layer_idx=False, add_cross_attention=False, tie_word_embeddings=True,
  ),
  dict(
    vocab="vocab_size", length="n_positions", width="n_embd", depth="n_layer", heads="n_head", mlp="n_inner",
    epsilon="layer_norm_epsilon", tied="tie_word_embeddings",
  ),
  dict(positions="learned"),
  dict(scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False),
  "activation_function",
)  # fmt: skip
