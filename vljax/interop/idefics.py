"""Hugging Face's IdeficsForVisionText2Text: a folder of `config.json`, weights, preprocessor and tokenizer files.

A LLaMA with SwiGLU in its gated blocks, too, norms without means there, maybe norms of queries and keys, and a CLIP
ViT whose class token the resampler sees. transformers keeps the vision encoder's last norm, which it does not use.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax import config as config_lib
from vljax.data.mean_std import MEAN_STD
from vljax.interop import hf_tokenizer, hugging_face, language_configs, names, safetensors_reader, torch_reader
from vljax.interop.hugging_face import ACTIVATIONS, CONFIG, PREPROCESSOR, WEIGHTS
from vljax.interop.imported import rgb
from vljax.interop.language_models import FAMILIES
from vljax.interop.limits import Limits
from vljax.interop.names import QKV, Table, linear, norm, row
from vljax.interop.seeing import Seeing
from vljax.models import flamingo
from vljax.models.flamingo import Flamingo

VISION_DEFAULTS = {
  "embed_dim": 768, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16, "num_channels": 3,
  "image_size": 224, "patch_size": 14, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
PERCEIVER_DEFAULTS = {
  "use_resampler": False, "resampler_n_latents": 64, "resampler_depth": 6, "resampler_n_heads": 16,
  "resampler_head_dim": 96, "qk_layer_norms_perceiver": False,
}  # fmt: skip
DEFAULTS = {
  **language_configs.LLAMA.defaults,
  "additional_vocab_size": 0, "cross_layer_interval": 1, "qk_layer_norms": False, "alpha_type": "float",
  "use_resampler": False,
}  # fmt: skip
"""What transformers takes for keys that a config leaves out."""

GATES = {"float": "tanh", "vector": "tanh_vector"}
"""Their `alpha_type` to our gate."""

UNUSED = r"model\.vision_model\.post_layernorm\.(weight|bias)"


def load(path: epath.PathLike) -> Seeing:
  """Read a folder.

  Raises:
    FileNotFoundError: no config or no weights.
    ValueError: another model type, a setting that vljax has no model for, a broken file, or a missing or unknown key.
  """
  folder = epath.Path(path)
  content, where = hugging_face.read_json(folder / CONFIG), str(folder / CONFIG)
  if content.get("model_type") != "idefics":
    raise ValueError(f"{where}: model_type = {content.get('model_type')!r}; legal: 'idefics'")
  config = _config(content, where)
  model = flamingo.build_from(**config)
  file = hugging_face.find_weights(folder)
  state = (torch_reader if file.suffix == ".bin" else safetensors_reader).state_dict(file)
  parts = {name: getattr(model, name) for name in ("vision", "lm", "resampler", "xattn")}
  params = names.to_ours(table(model), state, parts, str(file))
  notes: list[str] = []
  rest = {key: array for key, array in state.items() if names.matches(UNUSED, key)}
  preprocess = _preprocess(folder / PREPROCESSOR, model.vision.image_size, notes)
  tokenizer = hf_tokenizer.find(folder, model.lm.length, notes)
  return Seeing(config, params, rest, preprocess, tokenizer, notes).check(file)


def is_idefics(folder: epath.Path) -> bool:
  """Whether a folder holds the config.json of an IdeficsForVisionText2Text."""
  return hugging_face.model_type(folder) == "idefics"


def save(path: epath.PathLike, seeing: Seeing) -> list[str]:
  """Write a folder that `transformers.IdeficsForVisionText2Text.from_pretrained` opens.

  Returns what was left out, in sentences.

  Raises:
    ValueError: it has no place for something; names it.
  """
  model, limits = seeing.model(), Limits("idefics", path)
  content = _content(model, limits)
  limits.close()
  state = names.to_theirs(table(model), seeing.params, str(path)) | seeing.rest
  width = np.ones(model.vision.width, np.float32)
  for leaf, value in (("weight", width), ("bias", 0 * width)):
    state.setdefault(f"model.vision_model.post_layernorm.{leaf}", value)
  folder = epath.Path(path)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n")
  safetensors_reader.write(folder / WEIGHTS[0], state)
  if seeing.preprocess:
    said = {f"image_{k}": list(seeing.preprocess[k]) for k in ("mean", "std")}
    said |= {"image_processor_type": "IdeficsImageProcessor", "image_size": seeing.preprocess["size"]}
    (folder / PREPROCESSOR).write_text(json.dumps(said, indent=2) + "\n")
  return hugging_face.save_tokenizer(folder, seeing.tokenizer, ended=False)


def _config(content: Mapping[str, Any], where: str) -> dict[str, Any]:
  content = {**DEFAULTS, **content}
  vision, perceiver = (
    {**usual, **(content.get(f"{name}_config") or {})}
    for name, usual in (("vision", VISION_DEFAULTS), ("perceiver", PERCEIVER_DEFAULTS))
  )
  for said, key, legal in (
    (vision, "num_channels", 3), (content, "use_resampler", True), (content, "tie_word_embeddings", False),
  ):  # fmt: skip
    language_configs.only(said, key, legal, where)
  every, depth = content["cross_layer_interval"], content["num_hidden_layers"]
  if depth % every:
    raise ValueError(f"{where}: cross_layer_interval = {every} does not divide num_hidden_layers = {depth}")
  width, epsilon = vision["embed_dim"], content["rms_norm_eps"]
  act = lambda cfg: config_lib.choose(f"hidden_act in {where}", cfg["hidden_act"], ACTIVATIONS)
  lm = language_configs.LLAMA.read(content, where)
  return dict(
    vision=dict(
      tower="vit", image_size=vision["image_size"], patch=vision["patch_size"], width=width,
      depth=vision["num_hidden_layers"], heads=vision["num_attention_heads"], mlp=vision["intermediate_size"],
      activation=act(vision), epsilon=vision["layer_norm_eps"],
    ),
    lm={**lm, "extra": content["additional_vocab_size"]},
    resampler=dict(
      width=width, depth=perceiver["resampler_depth"], heads=perceiver["resampler_n_heads"],
      head_dim=perceiver["resampler_head_dim"], latents=perceiver["resampler_n_latents"], frames=0,
      activation="relu", qk_norm="layer" if perceiver["qk_layer_norms_perceiver"] else "none",
    ),
    xattn=dict(
      heads=content["num_attention_heads"], every=every, mlp=content["intermediate_size"], gated=True,
      activation=lm["activation"], norm="rms", qk_norm="rms" if content["qk_layer_norms"] else "none",
      gate=config_lib.choose(f"alpha_type in {where}", content["alpha_type"], GATES), epsilon=epsilon,
    ),
    class_token=True,
  )  # fmt: skip


def _content(model: Flamingo, limits: Limits) -> dict[str, Any]:
  """The config.json of a model; what it has no key for goes to `limits`."""
  vision, resampler, xattn, lm = model.vision, model.resampler, model.xattn, model.lm
  theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
  act = lambda part: limits.one_of("activation", part.activation, theirs)
  content = {
    **language_configs.LLAMA.write(lm.clone(extra=0), limits),
    "architectures": ["IdeficsForVisionText2Text"],
    "model_type": "idefics",
    "torch_dtype": "float32",
    "additional_vocab_size": lm.extra,
    "cross_layer_interval": xattn.every,
    "qk_layer_norms": xattn.qk_norm == "rms",
    "alpha_type": limits.one_of("xattn.gate", xattn.gate, {ours: name for name, ours in GATES.items()}),
    "use_resampler": True,
    "vision_config": {
      "model_type": "idefics_vision", "embed_dim": vision.width, "intermediate_size": vision.mlp or 4 * vision.width,
      "num_hidden_layers": vision.depth, "num_attention_heads": vision.heads, "image_size": vision.image_size,
      "patch_size": vision.patch, "hidden_act": act(vision), "layer_norm_eps": vision.epsilon,
    },
    "perceiver_config": {
      "use_resampler": True, "resampler_n_latents": resampler.latents, "resampler_depth": resampler.depth,
      "resampler_n_heads": resampler.heads, "resampler_head_dim": resampler.head_dim,
      "qk_layer_norms_perceiver": resampler.qk_norm == "layer",
    },
  }  # fmt: skip
  if limits.found:
    return content
  again = flamingo.build_from(**_config(content, limits.name))
  for part in ("vision", "resampler", "xattn"):
    ours, said = (_meaning(getattr(m, part)) for m in (model, again))
    for name, value in ours.items():
      if value != said[name]:
        limits.add(f"{part}.{name} = {value!r}", f"{said[name]!r}")
  for name in ("class_token", "silent", "graft"):
    if getattr(model, name) != getattr(again, name):
      limits.add(f"{name} = {getattr(model, name)!r}", f"{getattr(again, name)!r}")
  return content


def _meaning(part: Any) -> dict[str, Any]:
  """What a part computes: its fields with defaults filled in, without those that say how it runs."""
  fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
  fields = {name: value for name, value in fields.items() if name not in language_configs.RUNTIME}
  filled = {"mlp": 4 * part.width, "head_dim": part.width // part.heads}
  return {name: filled.get(name) if value is None else value for name, value in fields.items()}


def _preprocess(file: epath.Path, size: int, notes: list[str]) -> dict[str, Any]:
  mean, std = MEAN_STD["clip"]
  if file.exists():
    said = hugging_face.read_json(file)
    mean, std = (
      rgb(said.get(f"image_{k}", list(usual)), f"{file}: image_{k}") for k, usual in (("mean", mean), ("std", std))
    )
  else:
    notes.append(f"{file.parent} has no {file.name}: CLIP's mean and deviation are used")
  return dict(size=size, mean=mean, std=std, interpolation="bicubic", resize_mode="squash")


def table(model: Flamingo) -> Table:
  """The rows of a model's parameters."""
  gate = "token" if model.xattn.gate == "tanh_vector" else "one"
  ours, theirs = "xattn/blocks/{n}", "model.gated_cross_attn_layers.{n}"
  gated = [
    *_projections(ours, f"{theirs}.cross_attn", "o_proj"),
    *(_head_norms(ours, f"{theirs}.cross_attn", False) if model.xattn.qk_norm != "none" else ()),
    *(linear(f"{ours}/mlp/{x}", f"{theirs}.mlp.{x}_proj")[0] for x in ("gate", "up", "down")),
    norm(f"{ours}/norm_1", f"{theirs}.input_layernorm")[0],
    norm(f"{ours}/norm_2", f"{theirs}.post_attention_layernorm")[0],
    row(f"{ours}/gate_attention", f"{theirs}.alpha_cross_attn", gate),
    row(f"{ours}/gate_mlp", f"{theirs}.alpha_dense", gate),
  ]
  ours, theirs = "resampler/blocks/{n}", "model.perceiver_resampler.blocks.{n}"
  resampler = [
    row("resampler/latents", "model.perceiver_resampler.latents"),
    *norm(f"{ours}/norm_media", f"{theirs}.0.context_layer_norm"),
    *norm(f"{ours}/norm_latents", f"{theirs}.0.latents_layer_norm"),
    *_projections(ours, f"{theirs}.0", "output_proj"),
    *(_head_norms(ours, f"{theirs}.0", True) if model.resampler.qk_norm != "none" else ()),
    *norm(f"{ours}/norm_2", f"{theirs}.1.ln"),
    linear(f"{ours}/mlp/up", f"{theirs}.1.fc")[0],
    linear(f"{ours}/mlp/down", f"{theirs}.1.c_proj")[0],
    *norm("resampler/norm_post", "model.perceiver_resampler.layer_norm"),
  ]
  seen = "model.vision_model"
  vision = [
    row("vision/cls", f"{seen}.embeddings.class_embedding"),
    row("vision/patch/kernel", f"{seen}.embeddings.patch_embedding.weight", "conv"),
    row("vision/pos", f"{seen}.embeddings.position_embedding.weight"),
    *norm("vision/norm_pre", f"{seen}.pre_layrnorm"),
    *hugging_face.blocks("vision", seen),
  ]
  extra = [
    row("lm/extra_in/embedding", "model.embed_tokens.additional_embedding.weight"),
    row("lm/extra_out/kernel", "lm_head.additional_fc.weight", "linear"),
  ]
  llama = FAMILIES["llama"].table(model.lm)
  rows = (*llama.rows, *(extra if model.lm.extra else ()), *vision, *resampler, *gated)
  return Table(rows, (*llama.dropped, UNUSED, r"model\.vision_model\.embeddings\.position_ids"))


def _projections(ours: str, theirs: str, out: str) -> list[names.Row]:
  into = [row(f"{ours}/attention/{x}/kernel", f"{theirs}.{x[0]}_proj.weight", "to_heads") for x in QKV]
  return [*into, row(f"{ours}/attention/out/kernel", f"{theirs}.{out}.weight", "from_heads")]


def _head_norms(ours: str, theirs: str, bias: bool) -> list[names.Row]:
  both = [norm(f"{ours}/attention/{x}_norm", f"{theirs}.{x[0]}_layer_norm") for x in QKV[:2]]
  return [r for rows in both for r in (rows if bias else rows[:1])]
