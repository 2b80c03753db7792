"""OpenAI's CLIP (openai/CLIP, clip/model.py): one `.pt`, a state dict or a TorchScript archive, without any config.

Every dimension is read off the shapes, heads are 64 wide, the activation is QuickGELU, and texts are pooled at their
largest id. The same keys are open_clip's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax.data.tokenizers import ClipBpe
from vljax.interop import clip_resnet, haiku_reader, names, safetensors_reader, torch_reader, torch_writer
from vljax.interop.imported import Imported, clip_preprocess, clip_tokenizer
from vljax.interop.limits import Limits, largest_id_ends
from vljax.interop.names import QKV, Table, linear, norm, row
from vljax.models import dual_encoder
from vljax.models.modified_resnet import ModifiedResNet
from vljax.models.vit import ViT

HEAD_WIDTH = 64
IMAGE_TOWERS = ("vit", "modified_resnet")


def _blocks(tower: str, theirs: str) -> list[names.Row]:
  ours, theirs = f"{tower}/blocks/{{n}}", f"{theirs}.{{n}}"
  return [
    *norm(f"{ours}/norm_1", f"{theirs}.ln_1"),
    row([f"{ours}/attention/{x}/kernel" for x in QKV], f"{theirs}.attn.in_proj_weight", "to_heads"),
    row([f"{ours}/attention/{x}/bias" for x in QKV], f"{theirs}.attn.in_proj_bias", "head_bias"),
    *linear(f"{ours}/attention/out", f"{theirs}.attn.out_proj", "from_heads"),
    *norm(f"{ours}/norm_2", f"{theirs}.ln_2"),
    *linear(f"{ours}/mlp/up", f"{theirs}.mlp.c_fc"),
    *linear(f"{ours}/mlp/down", f"{theirs}.mlp.c_proj"),
  ]


TEXT = (
  row("text/pos", "positional_embedding"),
  row("text_head/kernel", "text_projection"),
  row("log_scale", "logit_scale", "scalar"),
)
WORDS = (
  *_blocks("text", "transformer.resblocks"),
  row("text/token/embedding", "token_embedding.weight"),
  *norm("text/norm_post", "ln_final"),
)
DROPPED = (
  r"(visual\.)?input_resolution", "context_length", "vocab_size", r"(.*\.)?attn_mask", r"(.*\.)?position_ids",
)  # fmt: skip

TABLE = Table(
  rows=(
    *TEXT,
    row("image/cls", "visual.class_embedding"),
    row("image/pos", "visual.positional_embedding"),
    row("image_head/kernel", "visual.proj"),
    row("image/patch/kernel", "visual.conv1.weight", "conv"),
    *norm("image/norm_pre", "visual.ln_pre"),
    *_blocks("image", "visual.transformer.resblocks"),
    *norm("image/norm_post", "visual.ln_post"),
    *WORDS,
  ),
  dropped=DROPPED,
)
"""Of the models whose image tower is a ViT."""

HALF = (
  r"visual\.proj|visual\.(.*\.)?(conv\d|downsample\.0)\.weight|visual\.attnpool\.\w_proj\..*|text_projection"
  r"|.*\.(attn\..*|c_fc\..*|c_proj\..*)"
)
"""The keys that OpenAI's own files keep in float16; the rest is float32."""


def load(path: epath.PathLike, *, activation: str = "quick_gelu") -> Imported:
  """Read a `.pt` (a state dict or TorchScript, float16 or float32) or a `.safetensors` with OpenAI's keys.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a broken file, another architecture, or a missing or unknown key.
  """
  state = read_state(path)
  config = infer(state, str(path))
  for tower, width in widths(config).items():
    config[tower]["heads"] = max(1, width // HEAD_WIDTH)
  image, text = config["image"], config["text"]
  text |= dict(pool="argmax", activation=activation)
  if "tower" not in image:
    image |= dict(pool="cls", activation=activation)
  params = to_params(state, dual_encoder.build_from(**config), str(path))
  notes = [f"{path} has OpenAI's keys and no config: {activation}, heads of 64, CLIP's preprocessing and tokenizer"]
  tokenizer = clip_tokenizer(text["vocab"], text["length"], notes, path)
  return Imported(config, params, clip_preprocess(image["image_size"]), tokenizer, notes).check(path)


def save(path: epath.PathLike, imported: Imported, *, half: bool = False) -> list[str]:
  """Write a plain state dict `.pt` with OpenAI's keys; `half` as OpenAI's own files: maps in float16.

  Returns what was left out, in sentences.

  Raises:
    ValueError: the format cannot hold the model: its readers assume QuickGELU, heads of 64, CLIP's vocabulary and
      preprocessing, and pooling at the largest id.
  """
  model, limits = imported.model(), Limits("openai", path)
  limits.towers(model, IMAGE_TOWERS)
  for tower in (model.image, model.text):
    limits.usual(tower, heads=max(1, tower.width // HEAD_WIDTH))
  limits.usual(model.text, activation="quick_gelu")
  if isinstance(model.image, ViT):
    limits.usual(model.image, activation="quick_gelu", pool="cls", norm_pre=True, patch_bias=False)
  limits.usual(model.text, causal=True)
  if not largest_id_ends(model.text):
    limits.add(f"text.pool = {model.text.pool!r}", "'argmax'")
  limits.tokenizer(imported.tokenizer, "clip_bpe")
  limits.cleaning(imported.tokenizer, ClipBpe, "lower")
  limits.preprocess(imported.preprocess, clip_preprocess(model.image.image_size))
  limits.close()
  state = to_state(imported.params, model, str(path))
  if half:
    state = {k: v.astype(np.float16) if names.matches(HALF, k) else v for k, v in state.items()}
  epath.Path(path).parent.mkdir(parents=True, exist_ok=True)
  torch_writer.write(path, state)
  return left_out(model)


def is_training_checkpoint(path: epath.PathLike) -> bool:
  """Whether a file holds a state dict among other things (open_clip's {epoch, name, state_dict, optimizer})."""
  content = torch_reader.read(path)
  return isinstance(content, dict) and "state_dict" in content


def read_state(path: epath.PathLike) -> dict[str, np.ndarray]:
  """The state dict of a file by its kind, without the prefixes that training wrappers put before every key."""
  readers = {".safetensors": safetensors_reader, ".json": safetensors_reader, ".npz": haiku_reader}
  state = readers.get(epath.Path(path).suffix, torch_reader).state_dict(path)
  for prefix in ("module.", "_orig_mod."):
    if state and all(key.startswith(prefix) for key in state):
      state = {key.removeprefix(prefix): array for key, array in state.items()}
  return state


def infer(state: Mapping[str, np.ndarray], where: str) -> dict[str, Any]:
  """Every dimension that the shapes tell: image, text, dim and, where it is not the usual one, image_projection.

  Raises:
    ValueError: a key that is needed is missing, or a shape is of no known tower.
  """
  if clip_resnet.FIRST not in state:
    return names.infer(TABLE, state, where)
  image, dim = clip_resnet.infer(state, where)
  text, _ = names.infer_text(TABLE, state, where)
  return dict(image=image, text=text, dim=dim, image_projection="affine")


def widths(config: Mapping[str, Any]) -> dict[str, int]:
  """The width of each tower that `infer` found."""
  image, text = config["image"], config["text"]
  return {"image": image["width"] if "width" in image else 32 * image["base"], "text": text["width"]}


def table(model: dual_encoder.DualEncoder) -> Table:
  """The rows of a model's keys."""
  if isinstance(model.image, ModifiedResNet):
    return Table((*TEXT, *clip_resnet.rows(model.image.blocks), *WORDS), (*DROPPED, clip_resnet.COUNTERS))
  return TABLE


def to_params(state: Mapping[str, np.ndarray], model: dual_encoder.DualEncoder, where: str) -> Any:
  """The parameters of a model from a state dict with these keys."""
  return names.to_ours(table(model), state, model, where, _absent(model))


def to_state(params: Any, model: dual_encoder.DualEncoder, where: str) -> dict[str, np.ndarray]:
  """The state dict with these keys of a model's parameters."""
  state = names.to_theirs(table(model), params, where, _absent(model))
  return clip_resnet.with_counters(state) if isinstance(model.image, ModifiedResNet) else state


def left_out(model: dual_encoder.DualEncoder) -> list[str]:
  """What a file with these keys says otherwise than the one that a model came from, in sentences."""
  counted = isinstance(model.image, ModifiedResNet)
  return ["the norms' num_batches_tracked, which nothing here computes with, are written as 0"] if counted else []


def _absent(model: dual_encoder.DualEncoder) -> tuple[str, ...]:
  return () if getattr(model.image, "norm_pre", True) else ("image/norm_pre",)
