"""Hugging Face's SiglipModel (SigLIP, and SigLIP 2 at fixed resolutions): a folder like a CLIPModel's."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from vljax import config as config_lib
from vljax.data.mean_std import MEAN_STD
from vljax.data.tokenizers import SentencePiece
from vljax.interop import hf_tokenizer, hugging_face, names, safetensors_reader, torch_reader
from vljax.interop.hugging_face import ACTIVATIONS, CONFIG, PREPROCESSOR, WEIGHTS
from vljax.interop.imported import Imported
from vljax.interop.limits import Limits
from vljax.interop.names import QKV, Table, linear, norm, row
from vljax.models import dual_encoder
from vljax.models.text import TextTransformer
from vljax.models.vit import ViT

FIELDS = dict(scale_init=0.0, bias_init=0.0, max_scale=None, image_projection="none", text_projection="affine")
"""What each such model has besides its towers; the scores' scale and bias come with the weights."""

DEFAULTS = {
  "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
  "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
}  # fmt: skip
TEXT_DEFAULTS = {**DEFAULTS, "vocab_size": 32_000, "max_position_embeddings": 64}
IMAGE_DEFAULTS = {**DEFAULTS, "num_channels": 3, "image_size": 224, "patch_size": 16}
"""What transformers takes for keys that a config leaves out."""

_POOL, _HEAD = "image/pool", "vision_model.head"

TABLE = Table(
  rows=(
    row("log_scale", "logit_scale", "one"),
    row("bias", "logit_bias", "one"),
    row("text/token/embedding", "text_model.embeddings.token_embedding.weight"),
    row("text/pos", "text_model.embeddings.position_embedding.weight"),
    *hugging_face.blocks("text", "text_model"),
    *norm("text/norm_post", "text_model.final_layer_norm"),
    *linear("text_head", "text_model.head"),
    *linear("image/patch", "vision_model.embeddings.patch_embedding", "conv"),
    row("image/pos", "vision_model.embeddings.position_embedding.weight"),
    *hugging_face.blocks("image", "vision_model"),
    *norm("image/norm_post", "vision_model.post_layernorm"),
    row(f"{_POOL}/query", f"{_HEAD}.probe", "first"),
    row([f"{_POOL}/attention/{x}/kernel" for x in QKV], f"{_HEAD}.attention.in_proj_weight", "to_heads"),
    row([f"{_POOL}/attention/{x}/bias" for x in QKV], f"{_HEAD}.attention.in_proj_bias", "head_bias"),
    *linear(f"{_POOL}/attention/out", f"{_HEAD}.attention.out_proj", "from_heads"),
    *norm(f"{_POOL}/norm", f"{_HEAD}.layernorm"),
    *linear(f"{_POOL}/mlp/up", f"{_HEAD}.mlp.fc1"),
    *linear(f"{_POOL}/mlp/down", f"{_HEAD}.mlp.fc2"),
  ),
  dropped=(r"(text|vision)_model\.embeddings\.position_ids",),
)


def load(path: epath.PathLike, *, activation: str | None = None) -> Imported:
  """Read a SiglipModel's folder, or its weights file with `config.json` beside it.

  Raises:
    FileNotFoundError: no config or no weights.
    ValueError: another model type, a setting that vljax has no model for, a broken file, or a missing or unknown key.
  """
  path = epath.Path(path)
  folder = path if path.is_dir() else path.parent
  where = str(folder / CONFIG)
  content = hugging_face.read_json(folder / CONFIG)
  if content.get("model_type") != "siglip":
    raise ValueError(f"{where}: model_type = {content.get('model_type')!r}; legal: 'siglip'")
  config = _config(content, activation, where)
  weights = path if path != folder else hugging_face.find_weights(folder)
  state = torch_reader.state_dict(weights) if weights.suffix == ".bin" else safetensors_reader.state_dict(weights)
  params = names.to_ours(TABLE, state, dual_encoder.build_from(**config), str(weights))
  notes: list[str] = []
  size = config["image"]["image_size"]
  mean, std = MEAN_STD["inception"]
  usual = dict(size=size, mean=mean, std=std, interpolation="bicubic", resize_mode="squash")
  preprocess = hugging_face.read_preprocess(folder / PREPROCESSOR, usual, notes)
  tokenizer = hf_tokenizer.siglip(folder, config["text"]["length"], notes)
  return Imported(config, params, preprocess, tokenizer, notes).check(weights)


def is_siglip(folder: epath.Path) -> bool:
  """Whether a folder holds the config.json of a SiglipModel."""
  return hugging_face.model_type(folder) == "siglip"


def save(path: epath.PathLike, imported: Imported) -> list[str]:
  """Write a folder that `transformers.SiglipModel.from_pretrained` opens.

  Returns what was left out, in sentences.

  Raises:
    ValueError: SiglipModel has no place for something; names it.
  """
  model, limits = imported.model(), Limits("siglip", path)
  limits.towers(model)
  limits.usual(model.image, pool="map", patch_bias=True, norm_pre=False)
  limits.usual(model.text, causal=False, pool="last")
  for name, value in (("image_projection", "none"), ("text_projection", "affine")):
    limits.one_of(name, getattr(model, name), {value: value})
  if model.bias_init is None:
    limits.add("scores without a bias", "one")
  limits.tokenizer(imported.tokenizer, "hf_json", "sentencepiece")
  limits.cleaning(imported.tokenizer, SentencePiece, "siglip")
  contents = {CONFIG: _siglip_config(model, limits), PREPROCESSOR: _preprocessor(imported.preprocess, limits)}
  limits.close()
  state = names.to_theirs(TABLE, imported.params, str(path))
  folder = epath.Path(path)
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in contents.items():
    (folder / name).write_text(json.dumps(content, indent=2) + "\n")
  safetensors_reader.write(folder / WEIGHTS[0], state)
  return hugging_face.save_tokenizer(folder, imported.tokenizer)


def _config(content: Mapping[str, Any], activation: str | None, where: str) -> dict[str, Any]:
  vision = {**IMAGE_DEFAULTS, **(content.get("vision_config") or {})}
  text = {**TEXT_DEFAULTS, **(content.get("text_config") or {})}
  projection = text.get("projection_size", text["hidden_size"])
  for what, found, legal in (
    ("vision_config.num_channels", vision["num_channels"], 3),
    ("vision_config.vision_use_head", vision.get("vision_use_head", True), True),
    ("text_config.projection_size", projection, vision["hidden_size"]),
  ):
    if found != legal:
      raise ValueError(f"{where}: {what} = {found!r}, which vljax has no model for; legal: {legal!r}")

  def tower(cfg: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = config_lib.choose(f"{name}.hidden_act in {where}", cfg["hidden_act"], ACTIVATIONS)
    return dict(
      width=cfg["hidden_size"],
      depth=cfg["num_hidden_layers"],
      heads=cfg["num_attention_heads"],
      mlp=cfg["intermediate_size"],
      epsilon=cfg["layer_norm_eps"],
      activation=activation or found,
    )

  image = dict(image_size=vision["image_size"], patch=vision["patch_size"], **tower(vision, "vision_config"))
  words = dict(vocab=text["vocab_size"], length=text["max_position_embeddings"], **tower(text, "text_config"))
  return dict(
    image=dict(**image, pool="map", norm_pre=False, patch_bias=True),
    text=dict(**words, pool="last", causal=False),
    dim=vision["hidden_size"],
    **FIELDS,
  )


def _siglip_config(model: dual_encoder.DualEncoder, limits: Limits) -> dict[str, Any]:
  image, text = model.image, model.text
  return {
    "architectures": ["SiglipModel"],
    "model_type": "siglip",
    "text_config": {
      **_tower(text, limits),
      "model_type": "siglip_text_model",
      "vocab_size": text.vocab,
      "max_position_embeddings": text.length,
      "projection_size": model.dim,
    },
    "vision_config": {
      **_tower(image, limits),
      "model_type": "siglip_vision_model",
      "image_size": image.image_size,
      "patch_size": image.patch,
    },
    "torch_dtype": "float32",
  }


def _tower(tower: ViT | TextTransformer, limits: Limits) -> dict[str, Any]:
  return {**hugging_face.sub_config(tower, limits), "layer_norm_eps": tower.epsilon}


def _preprocessor(preprocess: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
  limits.one_of("preprocess.resize_mode", preprocess["resize_mode"], {"squash": None})
  content = hugging_face.preprocessor(preprocess, limits)
  return {**content, "image_processor_type": "SiglipImageProcessor", "do_center_crop": None}
