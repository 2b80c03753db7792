"""OpenFlamingo's checkpoints: a `.pt` of what was trained, the resampler and the gated blocks.

Their blocks stand where the number plus one divides by an interval, have 8 heads of 64, and GELU. lucidrains'
flamingo-pytorch, from which the code comes, has the same keys for its modules.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax.interop import names, openai, torch_writer
from vljax.interop.limits import Limits
from vljax.interop.names import Table, linear, norm, row
from vljax.interop.seeing import CONNECTORS, Seeing
from vljax.models import fitting, gated_xattn, resampler

HEADS, HEAD_DIM = 8, 64
"""Of both parts; nothing in the files tells them apart from their product."""

GATED = re.compile(r"(?:.*\.)?(?:gated_cross_attn_layers\.(\d+)|\w+\.(\d+)\.gated_cross_attn_layer)\.(.+)")
"""A key of a gated block, by the list of them or by the language model's block that it stands before."""

OTHERS = re.compile(r"(lang_encoder|vision_encoder)\..*|.*\.(media_time_embs|media_pos_emb)")
"""Keys of the frozen parts, and of embeddings that Flamingo has not."""

EMBEDDING = re.compile(r"lang_encoder\.(?:.*\.)?(wte|embed_tokens|embed_in)\.weight")
"""The key of the input embedding, whose rows for new tokens were trained: the end of a chunk, then the image."""

WORDS = "lang_encoder.transformer.wte.weight"

_RESAMPLER, _GATED = "resampler/blocks/{n}", "xattn/blocks/{n}"


def _attention(ours: str, theirs: str) -> list[names.Row]:
  return [
    row(f"{ours}/query/kernel", f"{theirs}.to_q.weight", "to_heads"),
    row([f"{ours}/{x}/kernel" for x in ("key", "value")], f"{theirs}.to_kv.weight", "to_heads"),
    row(f"{ours}/out/kernel", f"{theirs}.to_out.weight", "from_heads"),
  ]


def _feed(ours: str, theirs: str) -> list[names.Row]:
  half = [linear(f"{ours}/mlp/up", f"{theirs}.1")[0], linear(f"{ours}/mlp/down", f"{theirs}.3")[0]]
  return [*norm(f"{ours}/norm_2", f"{theirs}.0"), *half]


TABLES = {
  "resampler": Table(
    (
      row("resampler/latents", "perceiver.latents"),
      row("resampler/time", "perceiver.frame_embs"),
      *norm(f"{_RESAMPLER}/norm_media", "perceiver.layers.{n}.0.norm_media"),
      *norm(f"{_RESAMPLER}/norm_latents", "perceiver.layers.{n}.0.norm_latents"),
      *_attention(f"{_RESAMPLER}/attention", "perceiver.layers.{n}.0"),
      *_feed(_RESAMPLER, "perceiver.layers.{n}.1"),
      *norm("resampler/norm_post", "perceiver.norm"),
    ),
    (),
  ),
  "xattn": Table(
    (
      row(f"{_GATED}/gate_attention", "gated.{n}.attn_gate", "one"),
      row(f"{_GATED}/gate_mlp", "gated.{n}.ff_gate", "one"),
      *norm(f"{_GATED}/norm_1", "gated.{n}.attn.norm"),
      *_attention(f"{_GATED}/attention", "gated.{n}.attn"),
      *_feed(_GATED, "gated.{n}.ff"),
    ),
    (),
  ),
}


def load(path: epath.PathLike, *, layers: int | None = None, vocab: int | None = None) -> Seeing:
  """The connectors of a `.pt`.

  Args:
    layers: blocks of the language model; None: the fewest that the numbers of the gated ones allow.
    vocab: its tokens, without the new ones: the rows behind those become the decoder's extra ones, first `<image>`,
      then `<EOC>`. They are taken for the output, too, as models with tied embeddings have it. None leaves them out.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a broken file, gated blocks at other places, or a missing or unknown key.
  """
  return from_state(openai.read_state(epath.Path(path)), str(path), layers=layers, vocab=vocab)


def from_state(
  state: Mapping[str, np.ndarray], where: str, *, layers: int | None = None, vocab: int | None = None
) -> Seeing:
  """`load` of a state dict that is read already; it may hold one connector only."""
  state = {name.removeprefix("module."): array for name, array in state.items()}
  gated = {name: found.groups() for name in state if (found := GATED.fullmatch(name))}
  at = sorted({int(a or b) for a, b, _ in gated.values()})
  own = {f"gated.{at.index(int(a or b))}.{rest}": state[name] for name, (a, b, rest) in gated.items()}
  perceiver = {name: array for name, array in state.items() if name.startswith("perceiver.")}
  rest = [name for name in state if name not in gated and name not in perceiver]
  for name in rest:
    if not OTHERS.fullmatch(name):
      raise ValueError(f"{where}: the key {name!r} is unknown; legal: perceiver.*, gated_cross_attn_layers.N.*")
  for name in [name for name in perceiver if OTHERS.fullmatch(name)]:
    if np.any(perceiver.pop(name)):
      raise ValueError(f"{where}: {name} numbers the media, which vljax has no model for; legal: none, or zeros")
  config, params = {}, {}
  for part, arrays, found in (("resampler", perceiver, _resampler), ("xattn", own, _xattn)):
    if arrays:
      config[part] = {**found(arrays, where), **({} if part == "resampler" else _places(at, layers, where))}
      model = {"resampler": resampler, "xattn": gated_xattn}[part].build(**config[part])
      absent = ["resampler/time"] if part == "resampler" and not model.frames else []
      params |= names.to_ours(TABLES[part], arrays, {part: model}, where, absent)
      fitting.check(params[part], model, where)
  if vocab is not None:
    params["lm"] = _new_tokens(state, vocab, where)
  notes = [f"{where}: {len(rest)} keys of the frozen parts are left out"] if rest else []
  return Seeing(config, params, notes=notes)


def is_connectors(state: Mapping[str, np.ndarray]) -> bool:
  """Whether a state dict has a resampler or gated blocks with their keys."""
  return any(GATED.fullmatch(name) or name.removeprefix("module.").startswith("perceiver.") for name in state)


def save(path: epath.PathLike, seeing: Seeing, *, embedding: np.ndarray | None = None, key: str = WORDS) -> list[str]:
  """Write the connectors as a `.pt` that OpenFlamingo loads with `strict=False`; returns what was left out.

  Args:
    embedding: the language model's own table [vocab d], behind which the trained rows of the new tokens are written:
      it holds all rows or none.
    key: of that table; MPT's is the default.

  Raises:
    ValueError: it has no place for something, or the table has another width; names it.
  """
  torch_writer.write(path, to_state(seeing, str(path), embedding=embedding, key=key))
  if embedding is None and "extra_in" in seeing.params.get("lm", {}):
    return [f"{path} leaves out the trained rows of <image> and <EOC>: they go behind the table of `embedding`"]
  return []


def to_state(
  seeing: Seeing, where: str, *, embedding: np.ndarray | None = None, key: str = WORDS
) -> dict[str, np.ndarray]:
  """What `save` writes."""
  limits, state = Limits("open_flamingo", where), {}
  for part in (name for name in CONNECTORS if name in seeing.config):
    model: Any = _build(part, seeing)
    usual = dict(activation="gelu", qk_norm="none", heads=HEADS, head_dim=HEAD_DIM, epsilon=1e-5)
    usual |= (
      dict(kind="perceiver")
      if part == "resampler"
      else dict(norm="layer", gate="tanh", gated=False, dense=True, project=False, previous=False)
    )
    for name, value in usual.items():
      if getattr(model, name) != value:
        limits.add(f"{part}.{name} = {getattr(model, name)!r}", f"{value!r}")
    if part == "resampler" and model.media_width != model.width:
      limits.add(f"resampler.media_width = {model.media_width}", str(model.width))
    if part == "xattn" and model.placement != "last" and model.every > 1:
      limits.add(f"xattn.placement = {model.placement!r}", "'last'")
    limits.close()
    absent = ["resampler/time"] if part == "resampler" and not model.frames else []
    found = names.to_theirs(TABLES[part], {part: seeing.params[part]}, where, absent)
    place = lambda key, at=getattr(model, "at", ()): re.sub(
      r"^gated\.(\d+)", lambda m: f"lang_encoder.gated_cross_attn_layers.{at[int(m[1])]}", key
    )
    state |= {place(name): array for name, array in found.items()}
  if embedding is not None:
    image, chunk = np.asarray(seeing.params["lm"]["extra_in"]["embedding"])
    if embedding.shape[1:] != image.shape:
      raise ValueError(f"{where}: rows of {len(image)} behind an embedding of shape {embedding.shape}")
    state[key] = np.concatenate([np.asarray(embedding, np.float32), [chunk, image]])
  return state


def _build(part: str, seeing: Seeing) -> Any:
  if "lm" in seeing.config:
    return getattr(seeing.model(), part)
  return {"resampler": resampler, "xattn": gated_xattn}[part].build(**seeing.config[part])


def _resampler(state: Mapping[str, np.ndarray], where: str) -> dict[str, Any]:
  latents, width = names.need(state, "perceiver.latents", where).shape
  depth = len({name.split(".")[2] for name in state if name.startswith("perceiver.layers.")})
  return dict(
    media_width=width, width=width, depth=depth, heads=HEADS, head_dim=HEAD_DIM, latents=latents, activation="gelu",
    frames=len(state.get("perceiver.frame_embs", ())),
  )  # fmt: skip


def _xattn(state: Mapping[str, np.ndarray], where: str) -> dict[str, Any]:
  visual = names.need(state, "gated.0.attn.to_kv.weight", where).shape[1]
  width = len(names.need(state, "gated.0.attn.norm.weight", where))
  return dict(
    visual_width=visual, width=width, heads=HEADS, head_dim=HEAD_DIM, activation="gelu",
  )  # fmt: skip


def _new_tokens(state: Mapping[str, np.ndarray], vocab: int, where: str) -> dict[str, Any]:
  key = next(filter(EMBEDDING.fullmatch, state), WORDS)
  table = np.asarray(names.need(state, key, where), np.float32)
  if len(table) < vocab + 2:
    raise ValueError(f"{where}: {key} has {len(table)} rows; with {vocab} tokens and two new ones it has more")
  rows = table[[vocab + 1, vocab]]
  return {"extra_in": {"embedding": rows}, "extra_out": {"kernel": np.ascontiguousarray(rows.T)}}


def _places(at: list[int], layers: int | None, where: str) -> dict[str, Any]:
  every = at[0] + 1
  layers = layers or at[-1] + 1
  if at != list(gated_xattn.places(layers, every, "last")):
    raise ValueError(f"{where}: gated blocks before {at} of {layers} blocks; legal: every k-th, the last of each k")
  return dict(layers=layers, every=every, placement="last")
