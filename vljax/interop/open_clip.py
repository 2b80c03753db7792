"""open_clip's checkpoints: `open_clip_config.json` beside weights with OpenAI's keys, or weights alone.

Nothing in the weights tells GELU from QuickGELU, so weights without a config are refused unless the caller says which.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax import config as config_lib
from vljax.data.tokenizers import ClipBpe, cleaning
from vljax.interop import hf_tokenizer, names, openai, safetensors_reader, timm_siglip
from vljax.interop.imported import Imported, clip_preprocess, own_clip_tokenizer, rgb
from vljax.interop.limits import Limits
from vljax.models import dual_encoder
from vljax.models.modified_resnet import ModifiedResNet
from vljax.models.text import TextTransformer
from vljax.models.vit import ViT

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}
"""Head width of the image towers (H, g, bigG, e) that is not 64, by width, for weights without a config."""

TANH = {"approximate": "tanh"}
CLEAN = {name: cleaning.RULES[name] for name in ("lower", "whitespace", "canonicalize")}
POOLS = {"argmax": "argmax", "eos": "eos", "last": "last"}

# Keys of the two tower configs that this reader understands, and all others with the value that changes nothing.
IMAGE_KEYS = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "no_ln_pre", "act_kwargs"}
TEXT_KEYS = {
  "layers", "width", "heads", "mlp_ratio", "context_length", "vocab_size", "pool_type", "eos_id", "no_causal_mask",
  "act_kwargs", "hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode", "pad_id", "norm_kwargs", "proj_bias",
}  # fmt: skip
NEUTRAL = {
  "ls_init_value": (None,), "patch_dropout": None, "attentional_pool": (False, None), "attn_pooler_queries": None,
  "attn_pooler_heads": None, "pos_embed_type": ("learnable",), "final_ln_after_pool": None, "output_tokens": None,
  "norm_kwargs": (None, {}), "block_type": (None, "default"), "qk_norm": (False,), "scaled_cosine_attn": (False,),
  "scale_heads": (False,), "scale_attn_inner": (False,), "scale_attn": (False,), "scale_fc": (False,),
  "timm_model_name": (None,), "timm_model_pretrained": None, "timm_pool": None, "timm_proj": None,
  "timm_proj_bias": None, "timm_drop": None, "timm_drop_path": None, "embed_cls": (False,), "proj_bias": (False,),
  "proj_type": ("linear",), "hf_model_name": (None,), "hf_model_pretrained": None, "hf_proj_type": None,
  "hf_pooler_type": None,
}  # fmt: skip
"""The rest of the keys: legal values, None standing for any."""


def load(path: epath.PathLike, *, activation: str | None = None) -> Imported:
  """Read a folder with `open_clip_config.json`, or a weights file (with that config beside it, or alone).

  Args:
    activation: "quick_gelu" or "gelu", where there is no config to tell; goes before one.

  Raises:
    FileNotFoundError: no weights there.
    ValueError: weights without config and without `activation`; a config that asks for what vljax has no model for;
      a broken file; a missing or unknown key.
  """
  path = epath.Path(path)
  weights = _weights(path)
  file = weights.parent / CONFIG
  if not file.exists() and activation is None:
    raise ValueError(
      f"{weights}: there is no {CONFIG} beside the weights, and weights do not tell QuickGELU from GELU; "
      "say which with activation='quick_gelu' (OpenAI, DFN, MetaCLIP) or activation='gelu' (LAION-2B, DataComp)"
    )
  state = _plain_text_keys(openai.read_state(weights))
  notes: list[str] = []
  if not file.exists():
    notes.append(f"{weights} has no {CONFIG}: heads follow the width, and CLIP's preprocessing is used")
  content = _json(file) if file.exists() else {}
  cfg = content.get("model_cfg", content)
  if timm_siglip.FIRST in state:
    found = timm_siglip.infer(state, cfg.get("vision_cfg", {}), str(file))
    config = _config(cfg, found, activation, str(file))
    params = names.to_ours(timm_siglip.TABLE, state, dual_encoder.build_from(**config), str(weights))
  else:
    config = _config(cfg, openai.infer(state, str(weights)), activation, str(file))
    params = openai.to_params(state, dual_encoder.build_from(**config), str(weights))
  preprocess = _preprocess(content.get("preprocess_cfg", {}), config["image"]["image_size"], notes, str(file))
  tokenizer = _tokenizer(cfg.get("text_cfg", {}), config["text"], notes, file)
  return Imported(config, params, preprocess, tokenizer, notes).check(weights)


def save(path: epath.PathLike, imported: Imported) -> list[str]:
  """Write a folder that open_clip opens as `local-dir:PATH`: config and safetensors.

  Returns what was left out, in sentences.

  Raises:
    ValueError: open_clip has no place for something; names it.
  """
  model, limits = imported.model(), Limits("open_clip", path)
  limits.towers(model, openai.IMAGE_TOWERS)
  siglip = model.text_projection == "affine"
  if isinstance(model.image, ViT) and not siglip:
    limits.usual(model.image, pool="cls", patch_bias=False)
  if siglip and model.bias_init is None:
    limits.add("scores without a bias beside a text projection with one", "both")
  limits.tokenizer(imported.tokenizer, *(("hf_json", "sentencepiece") if siglip else ("clip_bpe",)))
  limits.cleaning(imported.tokenizer, ClipBpe, *CLEAN)
  content = {"model_cfg": _model_cfg(model, imported.tokenizer, limits), "preprocess_cfg": dict(imported.preprocess)}
  limits.close()
  if siglip:
    state = timm_siglip.with_prefix(names.to_theirs(timm_siglip.TABLE, imported.params, str(path)))
  else:
    state = openai.to_state(imported.params, model, str(path))
  folder = epath.Path(path)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n")
  safetensors_reader.write(folder / WEIGHTS[0], state)
  tokenizer = [f"{path} holds no tokenizer, which open_clip asks the hub for"] if siglip and imported.tokenizer else []
  return [*openai.left_out(model), *tokenizer]


def _weights(path: epath.Path) -> epath.Path:
  if not path.is_dir():
    return path
  found = next((path / name for name in WEIGHTS if (path / name).exists()), None)
  if found is None:
    listed = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    raise FileNotFoundError(f"{path} holds none of {', '.join(WEIGHTS)}; found {listed}")
  return found


def _json(file: epath.Path) -> dict[str, Any]:
  try:
    content = json.loads(file.read_text())
  except ValueError as error:
    raise ValueError(f"{file} is not JSON: {error}") from error
  if not isinstance(content, dict):
    raise ValueError(f"{file} holds a {type(content).__name__}, not an object")
  return content


def _plain_text_keys(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The keys of open_clip's CustomTextCLIP (`text.*`) as those of its CLIP."""
  return {key.removeprefix("text."): array for key, array in state.items()}


def _config(cfg: Mapping[str, Any], found: dict[str, Any], activation: str | None, where: str) -> dict[str, Any]:
  """Our config from theirs (empty if there is none) and from the shapes, which win where both speak."""
  vision, text = cfg.get("vision_cfg", {}), cfg.get("text_cfg", {})
  timm = timm_siglip.FIELDS.keys() <= found.keys()
  timms = {key for key in vision if key.startswith("timm_")} if timm else set()
  _refuse(vision, IMAGE_KEYS | timms, "vision_cfg", where)
  _refuse(text, TEXT_KEYS, "text_cfg", where)
  quick = bool(cfg.get("quick_gelu", False))
  image_width, text_width = openai.widths(found).values()
  image = dict(found["image"])
  if not timm:
    head_width = vision.get("head_width", 64) if cfg else HEAD_WIDTHS.get(image_width, 64)
    image["heads"] = max(1, image_width // head_width)
  if not timm and "tower" not in image:
    image |= dict(
      activation=activation or _activation(quick, vision, f"{where}: vision_cfg"),
      pool="cls",
      norm_pre=not vision.get("no_ln_pre", False),
    )
  pool = config_lib.choose(f"text_cfg.pool_type in {where}", text.get("pool_type", "argmax"), POOLS)
  heads = text.get("heads", 8) if cfg else max(1, text_width // 64)
  text = dict(
    **found["text"],
    heads=heads,
    activation=activation or _activation(quick, text, f"{where}: text_cfg"),
    pool=pool,
    **({"eos_id": text.get("eos_id", 2)} if pool == "eos" else {}),
    causal=not text.get("no_causal_mask", False),
    **_epsilon(text, f"{where}: text_cfg"),
  )
  if bool(cfg.get("text_cfg", {}).get("proj_bias", False)) != timm and cfg:
    raise ValueError(f"{where}: text_cfg.proj_bias must be {timm} with these weights")
  return {**found, "image": image, "text": text}


def _epsilon(cfg: Mapping[str, Any], where: str) -> dict[str, float]:
  options = cfg.get("norm_kwargs") or {}
  if not set(options) <= {"eps"}:
    raise ValueError(f"{where}.norm_kwargs = {options!r}; legal: eps")
  return {"epsilon": float(options["eps"])} if options else {}


def _refuse(cfg: Mapping[str, Any], known: set[str], what: str, where: str) -> None:
  for key, value in cfg.items():
    if key in known:
      continue
    if key not in NEUTRAL:
      raise ValueError(f"{where}: {config_lib.unknown(f'key {what}.{key!r}', key, [*known, *NEUTRAL])}")
    legal = NEUTRAL[key]
    if legal is not None and value not in legal:
      raise ValueError(f"{where}: {what}.{key} = {value!r}, which vljax has no model for; legal: {legal[0]!r}")


def _activation(quick: bool, cfg: Mapping[str, Any], where: str) -> str:
  options = cfg.get("act_kwargs") or {}
  if options not in ({}, {"approximate": "none"}, TANH) or (quick and options):
    raise ValueError(f"{where}.act_kwargs = {options!r}; legal: {TANH!r} without quick_gelu, or none")
  return "quick_gelu" if quick else "gelu_tanh" if options == TANH else "gelu"


def _preprocess(cfg: Mapping[str, Any], size: int, notes: list[str], where: str) -> dict[str, Any]:
  usual = clip_preprocess(size)
  missing = [name for name in ("mean", "std") if name not in cfg]
  if missing:
    notes.append(f"{where} gives no preprocess_cfg.{' and '.join(missing)}: CLIP's is used")
  for name, legal in (("mode", "RGB"), ("fill_color", 0)):
    if cfg.get(name, legal) != legal:
      raise ValueError(f"{where}: preprocess_cfg.{name} = {cfg[name]!r}; legal: {legal!r}")
  given = {name: cfg[name] for name in ("interpolation", "resize_mode") if name in cfg}
  constants = {name: rgb(cfg[name], f"{where}: preprocess_cfg.{name}") for name in ("mean", "std") if name in cfg}
  return {**usual, **given, **constants}


def _tokenizer(cfg: Mapping[str, Any], text: Mapping[str, Any], notes: list[str], where: epath.Path) -> dict[str, Any]:
  """CLIP's, or the folder's tokenizer.json where text_cfg wants one of the hub; texts are cleaned as text_cfg says."""
  options, folder = cfg.get("tokenizer_kwargs") or {}, where.parent
  unknown = sorted({*options} - {"clean"}) + ["tokenizer_mode"] * bool(cfg.get("tokenizer_mode"))
  if unknown:
    notes.append(f"{where} wants a tokenizer with {', '.join(unknown)}, which vljax has not: texts must come as ids")
    return {}
  if "clean" in options:
    config_lib.choose(f"text_cfg.tokenizer_kwargs.clean in {where}", options["clean"], CLEAN)
  if cfg.get("hf_tokenizer_name") is None:
    found = own_clip_tokenizer(folder, text["vocab"], text["length"], notes)
    return found | options if found else {}
  if (folder / "tokenizer.json").exists():
    found = hf_tokenizer.pieces_json(folder, text["length"], siglip=cfg.get("proj_bias", False))
    return found | {"clean": options.get("clean", "whitespace")}
  notes.append(f"{folder} wants the tokenizer {cfg['hf_tokenizer_name']!r} and brings no tokenizer.json: texts must "
               "come as ids")  # fmt: skip
  return {}


def _model_cfg(model: dual_encoder.DualEncoder, tokenizer: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
  image, text = model.image, model.text
  quick = (image if isinstance(image, ViT) else text).activation == "quick_gelu"
  text_cfg = dict(
    context_length=text.length,
    vocab_size=text.vocab,
    width=text.width,
    heads=text.heads,
    layers=text.depth,
    **_mlp_ratio(text),
    **_act_kwargs(text, quick, limits),
    **({} if text.pool == "argmax" else {"pool_type": text.pool}),
    **({"eos_id": text.eos_id} if text.pool == "eos" else {}),
    **({} if text.causal else {"no_causal_mask": True}),
  )
  quick_gelu = {"quick_gelu": True} if quick else {}
  if tokenizer.get("kind") == "clip_bpe" and tokenizer.get("clean", "lower") != "lower":
    text_cfg["tokenizer_kwargs"] = {"clean": tokenizer["clean"]}
  if text.epsilon != 1e-5:
    text_cfg["norm_kwargs"] = {"eps": text.epsilon}
  if model.text_projection == "affine":
    text_cfg["proj_bias"] = True
    custom = {"custom_text": True, "init_logit_bias": model.bias_init}
    return {
      "embed_dim": model.dim,
      **custom,
      "vision_cfg": timm_siglip.vision_cfg(image, limits),
      "text_cfg": text_cfg,
    }
  vision_cfg = _vision_cfg(image, quick, limits) if isinstance(image, ViT) else _resnet_cfg(image)
  return {"embed_dim": model.dim, **quick_gelu, "vision_cfg": vision_cfg, "text_cfg": text_cfg}


def _vision_cfg(image: ViT, quick: bool, limits: Limits) -> dict[str, Any]:
  return dict(
    image_size=image.image_size,
    layers=image.depth,
    width=image.width,
    head_width=image.width // image.heads,
    patch_size=image.patch,
    **_mlp_ratio(image),
    **_act_kwargs(image, quick, limits),
    **({} if image.norm_pre else {"no_ln_pre": True}),
  )


def _resnet_cfg(image: ModifiedResNet) -> dict[str, Any]:
  heads = image.heads or image.width // 64
  return dict(
    image_size=image.image_size,
    layers=list(image.blocks),
    width=image.base,
    patch_size=None,
    **({} if image.width // heads == 64 else {"head_width": image.width // heads}),
  )


def _mlp_ratio(tower: ViT | TextTransformer) -> dict[str, float]:
  """The ratio from which open_clip computes int(width * ratio); absent where it is the usual 4."""
  hidden = tower.mlp or 4 * tower.width
  ratio = hidden / tower.width
  ratio = ratio if int(tower.width * ratio) == hidden else float(np.nextafter(ratio, np.inf))
  return {} if ratio == 4 else {"mlp_ratio": ratio}


def _act_kwargs(tower: ViT | TextTransformer, quick: bool, limits: Limits) -> dict[str, Any]:
  what = "image.activation" if isinstance(tower, ViT) else "text.activation"
  legal = {"quick_gelu": {}} if quick else {"gelu": {}, "gelu_tanh": {"act_kwargs": TANH}}
  return limits.one_of(what, tower.activation, legal) or {}
