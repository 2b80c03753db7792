"""Vision Transformers with timm's keys, in and out.

Neither the activation nor the number of heads nor a norm's epsilon shows in weights: timm's name of the model says
them, which stands in the `config.json` of a folder of the hub (`architecture`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vljax import config as config_lib
from vljax.data.mean_std import MEAN_STD
from vljax.interop import hugging_face, names, openai, safetensors_reader, torch_writer
from vljax.interop.imported import rgb
from vljax.interop.names import QKV, Row, Table, linear, need, norm, row
from vljax.interop.tower import Tower
from vljax.models import vit
from vljax.models.vit import ViT

FIRST = "patch_embed.proj.weight"
"""A key that only these models have."""

HEADS: dict[int, int] = dict.fromkeys((1152, 1280, 1408, 1536, 1664), 16)
"""Heads by width, where they are not 64 wide."""

SIGLIP = {
  **dict.fromkeys((f"vit_base_patch16_siglip_{n}" for n in (224, 256, 384, 512)), "gelu"),
  **dict.fromkeys((f"vit_large_patch16_siglip_{n}" for n in (256, 384)), "gelu"),
  **dict.fromkeys((f"vit_so400m_patch14_siglip_{n}" for n in (224, 378, 384)), "gelu"),
  **dict.fromkeys((f"vit_so400m_patch16_siglip_{n}" for n in (256, 384, 512)), "gelu_tanh"),
  **dict.fromkeys((f"vit_giantopt_patch16_siglip_{n}" for n in (256, 384)), "gelu_tanh"),
  "vit_base_patch32_siglip_256": "gelu_tanh",
  "vit_large_patch16_siglip_512": "gelu_tanh",
}
"""timm's name to the activation of the model that it stands for (timm 1.0.31)."""


def rows(prefix: str = "") -> tuple[Row, ...]:
  """Every parameter that such a model may have, their keys behind a prefix."""
  ours, block, pool, read = "image/blocks/{n}", f"{prefix}blocks.{{n}}", "image/pool", f"{prefix}attn_pool"
  return (
    row("image/cls", f"{prefix}cls_token", "token"),
    row("image/pos", f"{prefix}pos_embed", "first"),
    *linear("image/patch", f"{prefix}patch_embed.proj", "conv"),
    *norm("image/norm_pre", f"{prefix}norm_pre"),
    *norm(f"{ours}/norm_1", f"{block}.norm1"),
    row([f"{ours}/attention/{x}/kernel" for x in QKV], f"{block}.attn.qkv.weight", "to_heads"),
    row([f"{ours}/attention/{x}/bias" for x in QKV], f"{block}.attn.qkv.bias", "head_bias"),
    *linear(f"{ours}/attention/out", f"{block}.attn.proj", "from_heads"),
    *norm(f"{ours}/norm_2", f"{block}.norm2"),
    *linear(f"{ours}/mlp/up", f"{block}.mlp.fc1"),
    *linear(f"{ours}/mlp/down", f"{block}.mlp.fc2"),
    *norm("image/norm_post", f"{prefix}norm"),
    row(f"{pool}/query", f"{read}.latent", "first"),
    *linear(f"{pool}/attention/query", f"{read}.q", "to_heads", "head_bias"),
    row([f"{pool}/attention/{x}/kernel" for x in QKV[1:]], f"{read}.kv.weight", "to_heads"),
    row([f"{pool}/attention/{x}/bias" for x in QKV[1:]], f"{read}.kv.bias", "head_bias"),
    *linear(f"{pool}/attention/out", f"{read}.proj", "from_heads"),
    *norm(f"{pool}/norm", f"{read}.norm"),
    *linear(f"{pool}/mlp/up", f"{read}.mlp.fc1"),
    *linear(f"{pool}/mlp/down", f"{read}.mlp.fc2"),
  )


TABLE = Table(rows=rows(), dropped=(r"head\.(weight|bias)",))
"""Without the classifier, for which a tower has no place."""


def load(path: epath.PathLike, *, activation: str | None = None, heads: int | None = None) -> Tower:
  """Read a folder of the hub, or a file of weights with or without such a `config.json` beside it.

  Args:
    activation: where nothing tells it; goes before what does.
    heads: where they are not 64 wide and the width is none of HEADS.

  Raises:
    FileNotFoundError: there is no such path, or no weights in it.
    ValueError: an activation that nothing tells, a broken file, another architecture, or a missing or unknown key.
  """
  path = epath.Path(path)
  file = hugging_face.find_weights(path) if path.is_dir() else path
  options = dict(activation=activation, heads=heads)
  return from_state(openai.read_state(file), where=str(file), content=said(file), **options)


def said(file: epath.Path) -> dict[str, Any]:
  """The `config.json` beside a file of weights; empty if there is none."""
  config = file.parent / hugging_face.CONFIG
  return hugging_face.read_json(config) if config.exists() else {}


def from_state(
  state: Mapping[str, np.ndarray],
  *,
  where: str,
  content: Mapping[str, Any] | None = None,
  activation: str | None = None,
  heads: int | None = None,
) -> Tower:
  """`load` of a state dict that is read already, and of the content of its `config.json`, if it has one."""
  content = content or {}
  name = str(content.get("architecture") or "")
  config = infer(state, where, heads)
  activation = activation or _activation(name, content, where)
  epsilon = 1e-5 if ("_clip_" in name if name else config["norm_pre"]) else 1e-6
  model = vit.build(**config, activation=activation, epsilon=epsilon)
  weights = names.to_ours(TABLE, state, {"image": model}, where, absent(model))
  notes = (
    [] if name else [f"{where} has no {hugging_face.CONFIG}: heads follow the width, norms the one before blocks"]
  )
  preprocess = _preprocess(content.get("pretrained_cfg") or {}, model, notes, where)
  full = {"tower": "vit", **config, "activation": activation, "epsilon": epsilon}
  return Tower("image", full, weights, preprocess=preprocess, notes=notes).check(model, where)


def save(path: epath.PathLike, tower: Tower) -> None:
  """Write the weights as `.safetensors`, or as `.pt` or `.pth`, for the timm model of these settings without a head.

  With `pool="mean"` it is one of `global_pool="avg"` and `fc_norm=False`, since ours norms before the mean.

  Raises:
    ValueError: another ending, or no ViT.
  """
  fields = {name: value for name, value in tower.config.items() if name != "tower"}
  if tower.config.get("tower") != "vit":
    raise ValueError(f"{path}: the tower {tower.config.get('tower')!r} has no place in a timm ViT; legal: 'vit'")
  writers = {".safetensors": safetensors_reader, ".pt": torch_writer, ".pth": torch_writer}
  writer = config_lib.choose("ending of a file of torch's", epath.Path(path).suffix, writers)
  writer.write(path, names.to_theirs(TABLE, tower.weights, str(path), absent(vit.build(**fields))))


def is_vit(state: Mapping[str, np.ndarray]) -> bool:
  """Whether a state dict has the keys of such a model."""
  return FIRST in state


def absent(model: ViT) -> list[str]:
  """The beginnings of our names that this model has not."""
  has = {
    "image/cls": model.pool == "cls",
    "image/patch/bias": model.patch_bias,
    "image/norm_pre": model.norm_pre,
    "image/pool": model.pool == "map",
  }
  return [name for name, there in has.items() if not there]


def infer(state: Mapping[str, np.ndarray], where: str, heads: int | None = None) -> dict[str, Any]:
  """The keyword arguments of `vit.build` that keys and shapes tell.

  Raises:
    ValueError: no such model.
  """
  first = need(state, FIRST, where)
  if first.ndim != 4:
    raise ValueError(f"{where}: {FIRST} has shape {first.shape}; legal: 4 axes")
  width, _, _, patch = first.shape
  places = need(state, "pos_embed", where).shape[1] - ("cls_token" in state)
  grid = round(places**0.5)
  if grid**2 != places:
    raise ValueError(f"{where}: {places} image positions are no square of patches")
  found = (re.match(r"blocks\.(\d+)\.", key) for key in state)
  return dict(
    image_size=grid * patch,
    patch=patch,
    width=width,
    depth=1 + max((int(n[1]) for n in found if n), default=-1),
    heads=heads or HEADS.get(width, max(1, width // 64)),
    mlp=need(state, "blocks.0.mlp.fc1.bias", where).shape[0],
    pool="cls" if "cls_token" in state else "map" if "attn_pool.latent" in state else "mean",
    norm_pre="norm_pre.weight" in state,
    patch_bias="patch_embed.proj.bias" in state,
  )


def _activation(name: str, content: Mapping[str, Any], where: str) -> str:
  """What a name of timm's stands for; OpenAI's weights, trained with QuickGELU, stand under names with GELU, too."""
  tag = str((content.get("pretrained_cfg") or {}).get("tag") or name.partition(".")[2])
  name = name.partition(".")[0]
  if "_siglip_" in name:
    return config_lib.choose(f"architecture in {where}", name.replace("_gap", ""), SIGLIP)
  if "quickgelu" in name:
    return "quick_gelu"
  if name.startswith("vit_") and not tag.startswith("openai"):
    return "gelu"
  says = (
    f"{name!r} with the tag {tag!r} does" if name else f"there is no {hugging_face.CONFIG} beside it, and weights do"
  )
  raise ValueError(
    f"{where}: {says} not tell QuickGELU from GELU; say which with activation='quick_gelu' (OpenAI, DFN, MetaCLIP) or "
    "activation='gelu' (timm's own, LAION-2B)"
  )


def _preprocess(cfg: Mapping[str, Any], model: ViT, notes: list[str], where: str) -> dict[str, Any]:
  mean, std = MEAN_STD["clip" if model.norm_pre else "inception"]
  if not {"mean", "std"} <= cfg.keys():
    notes.append(f"{where} tells no mean and deviation: {'CLIP' if model.norm_pre else 'timm'}'s usual ones are used")
  if cfg.get("crop_pct", 1.0) != 1.0:
    notes.append(f"{where} wants a centre crop of {cfg['crop_pct']} of the picture: the whole short side is used")
  given = {n: rgb(cfg[n], f"{where}: pretrained_cfg.{n}") for n in ("mean", "std") if n in cfg}
  usual = dict(mean=mean, std=std, interpolation=cfg.get("interpolation", "bicubic"))
  return {**usual, **given, "size": model.image_size, "resize_mode": _resize(cfg)}


def _resize(cfg: Mapping[str, Any]) -> str:
  modes: Mapping[str, Any] = {"center": "shortest", "squash": "squash", "border": "longest"}
  return config_lib.choose("pretrained_cfg.crop_mode", cfg.get("crop_mode", "center"), modes)


def without(prefix: str, parts: Sequence[str]) -> list[Row]:
  """`rows(prefix)` but for those of our names that begin with one of `parts`."""
  return [r for r in rows(prefix) if not r.ours[0].startswith(tuple(parts))]
