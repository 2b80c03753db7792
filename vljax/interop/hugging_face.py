"""Hugging Face's CLIPModel: a folder of `config.json`, weights, and maybe preprocessor and tokenizer files."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from vljax import config as config_lib
from vljax.data import tokenizers
from vljax.interop import hf_tokenizer, names, safetensors_reader, torch_reader
from vljax.interop.imported import CLIP_VOCAB, Imported, clip_preprocess, own_clip_tokenizer, rgb
from vljax.interop.limits import Limits
from vljax.interop.names import QKV, Table, linear, norm, row
from vljax.models import dual_encoder
from vljax.models.text import TextTransformer
from vljax.models.vit import ViT

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
LEGACY_EOS = 2
"""The eos_token_id of configs written before transformers 4.31, which stands for pooling at the largest id."""

ACTIVATIONS = {
  "quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh",
  "relu": "relu", "silu": "silu", "swish": "silu", "relu2": "squared_relu",
}  # fmt: skip
"""Their `hidden_act` to our activation; the first of several is what we write."""

RESAMPLES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
"""PIL's numbers of interpolations."""

TEXT_DEFAULTS = {
  "vocab_size": 49_408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
  "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
  "eos_token_id": 49_407,
}  # fmt: skip
IMAGE_DEFAULTS = {
  "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
  "num_channels": 3, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
"""What transformers takes for keys that a config leaves out."""


def blocks(tower: str, theirs: str) -> list[names.Row]:
  ours, theirs = f"{tower}/blocks/{{n}}", f"{theirs}.encoder.layers.{{n}}"
  attention = [
    r for x in QKV for r in linear(f"{ours}/attention/{x}", f"{theirs}.self_attn.{x[0]}_proj", "to_heads", "head_bias")
  ]
  return [
    *attention,
    *linear(f"{ours}/attention/out", f"{theirs}.self_attn.out_proj", "from_heads"),
    *norm(f"{ours}/norm_1", f"{theirs}.layer_norm1"),
    *linear(f"{ours}/mlp/up", f"{theirs}.mlp.fc1"),
    *linear(f"{ours}/mlp/down", f"{theirs}.mlp.fc2"),
    *norm(f"{ours}/norm_2", f"{theirs}.layer_norm2"),
  ]


TABLE = Table(
  rows=(
    row("log_scale", "logit_scale", "scalar"),
    row("text/token/embedding", "text_model.embeddings.token_embedding.weight"),
    row("text/pos", "text_model.embeddings.position_embedding.weight"),
    *blocks("text", "text_model"),
    *norm("text/norm_post", "text_model.final_layer_norm"),
    row("image/cls", "vision_model.embeddings.class_embedding"),
    row("image/patch/kernel", "vision_model.embeddings.patch_embedding.weight", "conv"),
    row("image/pos", "vision_model.embeddings.position_embedding.weight"),
    *norm("image/norm_pre", "vision_model.pre_layrnorm"),
    *blocks("image", "vision_model"),
    *norm("image/norm_post", "vision_model.post_layernorm"),
    row("image_head/kernel", "visual_projection.weight", "linear"),
    row("text_head/kernel", "text_projection.weight", "linear"),
  ),
  dropped=(r"(text|vision)_model\.embeddings\.position_ids",),
)


def load(path: epath.PathLike, *, activation: str | None = None) -> Imported:
  """Read a CLIPModel's folder, or its weights file with `config.json` beside it.

  Raises:
    FileNotFoundError: no config or no weights.
    ValueError: another model type, a setting that vljax has no model for, a broken file, or a missing or unknown key.
  """
  path = epath.Path(path)
  folder = path if path.is_dir() else path.parent
  content = read_json(folder / CONFIG)
  if content.get("model_type") != "clip":
    raise ValueError(f"{folder / CONFIG}: model_type = {content.get('model_type')!r}; legal: 'clip'")
  weights = path if path != folder else find_weights(folder)
  state = torch_reader.state_dict(weights) if weights.suffix == ".bin" else safetensors_reader.state_dict(weights)
  config = _config(content, names.infer(TABLE, state, str(weights)), activation, str(folder / CONFIG))
  params = names.to_ours(TABLE, state, dual_encoder.build_from(**config), str(weights))
  notes: list[str] = []
  preprocess = read_preprocess(folder / PREPROCESSOR, clip_preprocess(config["image"]["image_size"]), notes)
  tokenizer = own_clip_tokenizer(folder, config["text"]["vocab"], config["text"]["length"], notes)
  return Imported(config, params, preprocess, tokenizer, notes).check(weights)


def is_clip(folder: epath.Path) -> bool:
  """Whether a folder holds the config.json of a CLIPModel."""
  return model_type(folder) == "clip"


def model_type(folder: epath.Path) -> str | None:
  """What a folder's config.json says it holds, if there is one.

  Raises:
    ValueError: it is damaged.
  """
  return read_json(folder / CONFIG).get("model_type") if (folder / CONFIG).exists() else None


def save(path: epath.PathLike, imported: Imported) -> list[str]:
  """Write a folder that `transformers.CLIPModel.from_pretrained` opens: config, safetensors, preprocessor, tokenizer.

  CLIP's tokenizer is written as `CLIPTokenizer` files, where its vocabulary is at hand, and a `tokenizer.json` as it
  is. Returns what was left out, in sentences.

  Raises:
    ValueError: CLIPModel has no place for something; names it.
  """
  model, limits = imported.model(), Limits("hf", path)
  limits.towers(model)
  limits.usual(model.image, pool="cls", patch_bias=False, norm_pre=True)
  limits.usual(model.text, causal=True)
  limits.tokenizer(imported.tokenizer, "clip_bpe", "hf_json")
  contents = {CONFIG: _clip_config(model, limits), PREPROCESSOR: preprocessor(imported.preprocess, limits)}
  limits.close()
  state = names.to_theirs(TABLE, imported.params, str(path))
  folder = epath.Path(path)
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in contents.items():
    (folder / name).write_text(json.dumps(content, indent=2) + "\n")
  safetensors_reader.write(folder / WEIGHTS[0], state)
  return save_tokenizer(folder, imported.tokenizer)


def save_tokenizer(folder: epath.Path, options: Mapping[str, Any], *, ended: bool = True) -> list[str]:
  """As `hf_tokenizer.save`, with a sentence where there is no tokenizer or no vocabulary of it."""
  if not options:
    return [f"{folder} holds no tokenizer files"]
  try:
    return hf_tokenizer.save(folder, tokenizers.build(**options), ended=ended)
  except FileNotFoundError as error:
    return [f"{folder} holds no tokenizer files: {error}"]


def read_json(file: epath.Path) -> dict[str, Any]:
  if not file.exists():
    raise FileNotFoundError(f"{file} does not exist; a Hugging Face model's folder has one")
  try:
    return dict(json.loads(file.read_text()))
  except (ValueError, TypeError) as error:
    raise ValueError(f"{file} is damaged: it is not a JSON object: {error}") from error


def find_weights(folder: epath.Path) -> epath.Path:
  found = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
  if found is None:
    raise FileNotFoundError(f"{folder} holds none of {', '.join(WEIGHTS)}")
  return found


def _tower(content: Mapping[str, Any], name: str, defaults: Mapping[str, Any], where: str) -> dict[str, Any]:
  """A sub-config with defaults filled in; an old `NAME_dict`, where there is one, replaces it as in transformers."""
  older = content.get(f"{name}_dict")
  given = content.get(name) or {} if older is None else {**(content.get(name) or {}), **defaults, **older}
  cfg = {**defaults, **given}
  for key, legal in (("layer_norm_eps", 1e-5), ("num_channels", 3)):
    if key in defaults and cfg[key] != legal:
      raise ValueError(f"{where}: {name}.{key} = {cfg[key]!r}, which vljax has no model for; legal: {legal!r}")
  return cfg


def _config(content: Mapping[str, Any], found: dict[str, Any], activation: str | None, where: str) -> dict[str, Any]:
  """Our config: dimensions from the shapes, which the config must not contradict; the rest from the config."""
  vision = _tower(content, "vision_config", IMAGE_DEFAULTS, where)
  text = _tower(content, "text_config", TEXT_DEFAULTS, where)
  said = dict(
    image=dict(image_size=vision["image_size"], patch=vision["patch_size"], depth=vision["num_hidden_layers"]),
    text=dict(depth=text["num_hidden_layers"]),
  )
  for tower, fields in said.items():
    for name, value in fields.items():
      if found[tower][name] != value:
        raise ValueError(f"{where}: {tower} {name} is {value!r}, but the weights' shapes say {found[tower][name]}")
  act = lambda cfg, name: (
    activation or config_lib.choose(f"{name}.hidden_act in {where}", cfg["hidden_act"], ACTIVATIONS)
  )
  eos = text["eos_token_id"]
  pooling = dict(pool="argmax") if eos == LEGACY_EOS else dict(pool="eos", eos_id=eos)
  if not isinstance(eos, int):
    raise ValueError(f"{where}: text_config.eos_token_id = {eos!r}; legal: an id")
  image = {**found["image"], "heads": vision["num_attention_heads"], "activation": act(vision, "vision_config")}
  text = {**found["text"], "heads": text["num_attention_heads"], "activation": act(text, "text_config"), **pooling}
  return dict(image={**image, "pool": "cls"}, text=text, dim=found["dim"])


def read_preprocess(file: epath.Path, usual: dict[str, Any], notes: list[str]) -> dict[str, Any]:
  """The preparation that a preprocessor_config.json says; `usual` where there is none, with a note.

  Raises:
    ValueError: sizes that are not the model's, or an unknown interpolation.
  """
  size = usual["size"]
  if not file.exists():
    notes.append(f"{file.parent} has no {file.name}: the usual preprocessing of such a model is used")
    return usual
  cfg = read_json(file)
  crop, resize = cfg.get("crop_size", size), cfg.get("size", size)
  sides = lambda value: (value,) * 2 if isinstance(value, int) else (value.get("height"), value.get("width"))
  squash = isinstance(resize, dict) and "shortest_edge" not in resize
  short = sides(resize)[0] if squash or isinstance(resize, int) else resize["shortest_edge"]
  crops = {*sides(crop)} if cfg.get("do_center_crop", usual["resize_mode"] == "shortest") else {short}
  if {size, short} != {size} or crops != {size} or (squash and len({*sides(resize)}) > 1):
    raise ValueError(f"{file}: size = {resize!r} and crop_size = {crop!r}; legal: {size} for both, the model's")
  mean, std = (rgb(cfg.get(f"image_{k}", list(usual[k])), f"{file}: image_{k}") for k in ("mean", "std"))
  interpolation = config_lib.choose(f"resample in {file}", cfg.get("resample", 3), RESAMPLES)
  resize_mode = "squash" if squash else "shortest"
  return dict(size=size, mean=mean, std=std, interpolation=interpolation, resize_mode=resize_mode)


def _clip_config(model: dual_encoder.DualEncoder, limits: Limits) -> dict[str, Any]:
  image, text = model.image, model.text
  eos = {"argmax": LEGACY_EOS, "eos": text.eos_id}
  end = limits.one_of("text.pool", text.pool, eos)
  if text.pool == "eos" and text.eos_id == LEGACY_EOS:
    limits.add("text.eos_id = 2", "pooling at the largest id")
  return {
    "architectures": ["CLIPModel"],
    "model_type": "clip",
    "projection_dim": model.dim,
    "logit_scale_init_value": 2.6592,
    "text_config": {
      **sub_config(text, limits),
      "layer_norm_eps": 1e-5,
      "projection_dim": model.dim,
      "model_type": "clip_text_model",
      "vocab_size": text.vocab,
      "max_position_embeddings": text.length,
      "eos_token_id": end,
      **({"bos_token_id": 0, "pad_token_id": 1} if text.vocab < CLIP_VOCAB else {}),
    },
    "vision_config": {
      **sub_config(image, limits),
      "layer_norm_eps": 1e-5,
      "projection_dim": model.dim,
      "model_type": "clip_vision_model",
      "image_size": image.image_size,
      "patch_size": image.patch,
    },
    "torch_dtype": "float32",
  }


def sub_config(tower: ViT | TextTransformer, limits: Limits) -> dict[str, Any]:
  """The dimensions of a tower as transformers names them."""
  theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
  what = "image.activation" if isinstance(tower, ViT) else "text.activation"
  return {
    "hidden_size": tower.width,
    "intermediate_size": tower.mlp or 4 * tower.width,
    "num_hidden_layers": tower.depth,
    "num_attention_heads": tower.heads,
    "hidden_act": limits.one_of(what, tower.activation, theirs),
  }


def preprocessor(preprocess: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
  """The content of preprocessor_config.json."""
  size = preprocess["size"]
  square = {"height": size, "width": size}
  resize = {"shortest": {"shortest_edge": size}, "squash": square}
  return {
    "image_processor_type": "CLIPImageProcessor",
    "feature_extractor_type": "CLIPFeatureExtractor",
    "do_resize": True,
    "size": limits.one_of("preprocess.resize_mode", preprocess["resize_mode"], resize),
    "resample": limits.one_of("preprocess.interpolation", preprocess["interpolation"], _numbers()),
    "do_center_crop": preprocess["resize_mode"] == "shortest",
    "crop_size": square,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(preprocess["mean"]),
    "image_std": list(preprocess["std"]),
    "do_convert_rgb": True,
  }


def _numbers() -> dict[str, int]:
  return {name: number for number, name in RESAMPLES.items()}
