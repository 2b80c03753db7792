"""big_vision's SigLIP checkpoints: one `.npz` of arrays named img/..., txt/..., t and b (google-research/big_vision).

Its arrays are laid out as ours are. Blocks are named one by one (`encoderblock_3`) or, where the model was scanned,
stacked under `encoderblock`. All dimensions are read off the shapes; the rest is SigLIP's: GELU by tanh, norms of
epsilon 1e-6, texts read at their last position.
"""

import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax.data.mean_std import MEAN_STD
from vljax.interop import names
from vljax.interop.imported import Imported
from vljax.interop.limits import Limits
from vljax.interop.names import QKV, Row, Table, need, row
from vljax.interop.siglip import FIELDS
from vljax.models import dual_encoder

SUFFIX = ".npz"
_STACKED = re.compile(r"(.*/encoderblock)/(.*)")


def _norm(ours: str, theirs: str) -> list[Row]:
  return [row(f"{ours}/{name}", f"{theirs}/{name}") for name in ("scale", "bias")]


def _linear(ours: str, theirs: str) -> list[Row]:
  return [row(f"{ours}/{name}", f"{theirs}/{name}") for name in ("kernel", "bias")]


def _attention(ours: str, theirs: str) -> list[Row]:
  return [r for name in (*QKV, "out") for r in _linear(f"{ours}/{name}", f"{theirs}/{name}")]


def _mlp(ours: str, theirs: str) -> list[Row]:
  return [*_linear(f"{ours}/up", f"{theirs}/Dense_0"), *_linear(f"{ours}/down", f"{theirs}/Dense_1")]


def _encoder(tower: str, theirs: str) -> list[Row]:
  ours, block = f"{tower}/blocks/{{n}}", f"{theirs}/encoderblock_{{n}}"
  return [
    *_norm(f"{ours}/norm_1", f"{block}/LayerNorm_0"),
    *_attention(f"{ours}/attention", f"{block}/MultiHeadDotProductAttention_0"),
    *_norm(f"{ours}/norm_2", f"{block}/LayerNorm_1"),
    *_mlp(f"{ours}/mlp", f"{block}/MlpBlock_0"),
    *_norm(f"{tower}/norm_post", f"{theirs}/encoder_norm"),
  ]


TABLE = Table(
  rows=(
    *_linear("image/patch", "img/embedding"),
    row("image/pos", "img/pos_embedding", "first"),
    *_encoder("image", "img/Transformer"),
    row("image/pool/query", "img/MAPHead_0/probe", "first"),
    *_attention("image/pool/attention", "img/MAPHead_0/MultiHeadDotProductAttention_0"),
    *_norm("image/pool/norm", "img/MAPHead_0/LayerNorm_0"),
    *_mlp("image/pool/mlp", "img/MAPHead_0/MlpBlock_0"),
    row("text/token/embedding", "txt/Embed_0/embedding"),
    row("text/pos", "txt/pos_embedding", "first"),
    *_encoder("text", "txt/Encoder_0"),
    *_linear("text_head", "txt/head"),
    row("log_scale", "t", "one"),
    row("bias", "b", "one"),
  ),
  dropped=(),
)


def load(path: epath.PathLike, *, activation: str | None = None) -> Imported:
  """Read a `.npz` of a SigLIP model; nothing pickled in it is opened.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a broken file, another architecture, or a missing or unknown key.
  """
  state, where = _read(path), str(path)
  config = _config(state, activation or "gelu_tanh", where)
  params = names.to_ours(TABLE, state, dual_encoder.build_from(**config), where)
  size = config["image"]["image_size"]
  mean, std = MEAN_STD["inception"]
  preprocess = dict(size=size, mean=mean, std=std, interpolation="bilinear", resize_mode="squash")
  notes = [
    f"{where} has no config: SigLIP's activation, pooling and preprocessing are used",
    f"{where} brings no tokenizer: texts must come as ids",
  ]
  return Imported(config, params, preprocess, {}, notes).check(where)


def save(path: epath.PathLike, imported: Imported) -> list[str]:
  """Write a `.npz` with big_vision's names, block by block.

  Returns what was left out, in sentences.

  Raises:
    ValueError: the names stand for a SigLIP model, and this is none; says why.
  """
  model, limits = imported.model(), Limits("big_vision", path)
  limits.towers(model)
  for tower in (model.image, model.text):
    limits.usual(tower, activation="gelu_tanh", epsilon=1e-6)
  limits.usual(model.image, pool="map", patch_bias=True, norm_pre=False)
  limits.usual(model.text, causal=False, pool="last")
  for name, value in (("image_projection", "none"), ("text_projection", "affine")):
    limits.one_of(name, getattr(model, name), {value: value})
  if model.bias_init is None:
    limits.add("scores without a bias", "one")
  limits.close()
  state = names.to_theirs(TABLE, imported.params, str(path))
  epath.Path(path).parent.mkdir(parents=True, exist_ok=True)
  with epath.Path(path).open("wb") as file:
    np.savez(file, allow_pickle=False, **{f"params/{name}": array for name, array in state.items()})
  tokenizer = [f"{path} holds no tokenizer"] if imported.tokenizer else []
  return [*tokenizer, f"{path} holds no preprocessing: its readers take SigLIP's"]


def _read(path: epath.PathLike) -> dict[str, np.ndarray]:
  """The arrays by name, without `params/` in front and without an optimiser's, stacked blocks taken apart."""
  try:
    with epath.Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
      found = {name: archive[name] for name in archive.files if not name.startswith("opt/")}
  except (zipfile.BadZipFile, ValueError, EOFError) as error:
    raise ValueError(f"{path} is no npz archive of plain arrays: {error}") from error
  if any(name.startswith("params/") for name in found):
    found = {name.removeprefix("params/"): x for name, x in found.items() if name.startswith("params/")}
  state: dict[str, np.ndarray] = {}
  for name, array in found.items():
    stacked = _STACKED.fullmatch(name)
    layers = {f"{stacked[1]}_{i}/{stacked[2]}": x for i, x in enumerate(array)} if stacked else {name: array}
    state |= layers
  return state


def _config(state: Mapping[str, np.ndarray], activation: str, where: str) -> dict[str, Any]:
  def shape(name: str, ndim: int) -> tuple[int, ...]:
    found = need(state, name, where).shape
    if len(found) != ndim:
      raise ValueError(f"{where}: {name} has shape {found}; legal: {ndim} axes")
    return found

  def tower(prefix: str) -> dict[str, Any]:
    block = f"{prefix}/encoderblock_0"
    pattern = re.compile(rf"{prefix}/encoderblock_(\d+)/")
    width, heads, _ = shape(f"{block}/MultiHeadDotProductAttention_0/query/kernel", 3)
    return dict(
      width=width,
      heads=heads,
      depth=1 + max(int(found[1]) for name in state if (found := pattern.match(name))),
      mlp=shape(f"{block}/MlpBlock_0/Dense_0/bias", 1)[0],
      activation=activation,
      epsilon=1e-6,
    )

  patch = shape("img/embedding/kernel", 4)[0]
  places = shape("img/pos_embedding", 3)[1]
  grid = round(places**0.5)
  if grid**2 != places:
    raise ValueError(f"{where}: {places} image positions are no square of patches")
  vocab = shape("txt/Embed_0/embedding", 2)[0]
  image = dict(image_size=grid * patch, patch=patch, **tower("img/Transformer"))
  text = dict(vocab=vocab, length=shape("txt/pos_embedding", 3)[1], **tower("txt/Encoder_0"))
  return dict(
    image=dict(**image, pool="map", norm_pre=False, patch_bias=True),
    text=dict(**text, pool="last", causal=False),
    dim=image["width"],
    **FIELDS,
  )
