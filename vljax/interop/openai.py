"""OpenAI's CLIP (openai/CLIP, clip/model.py): one `.pt`, a state dict or a TorchScript archive, without any config.

Every dimension is read off the shapes, heads are 64 wide, the activation is QuickGELU, and texts are pooled at their
largest id. The same keys are open_clip's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax.interop import names, safetensors_reader, torch_reader, torch_writer
from vljax.interop.imported import Imported, clip_preprocess, clip_tokenizer
from vljax.interop.limits import Limits, largest_id_ends
from vljax.interop.names import QKV, Table, linear, norm, row
from vljax.models import dual_encoder

HEAD_WIDTH = 64


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


TABLE = Table(
  rows=(
    row("text/pos", "positional_embedding"),
    row("text_head/kernel", "text_projection"),
    row("log_scale", "logit_scale", "scalar"),
    row("image/cls", "visual.class_embedding"),
    row("image/pos", "visual.positional_embedding"),
    row("image_head/kernel", "visual.proj"),
    row("image/patch/kernel", "visual.conv1.weight", "conv"),
    *norm("image/norm_pre", "visual.ln_pre"),
    *_blocks("image", "visual.transformer.resblocks"),
    *norm("image/norm_post", "visual.ln_post"),
    *_blocks("text", "transformer.resblocks"),
    row("text/token/embedding", "token_embedding.weight"),
    *norm("text/norm_post", "ln_final"),
  ),
  dropped=(
    r"(visual\.)?input_resolution", "context_length", "vocab_size", r"(.*\.)?attn_mask", r"(.*\.)?position_ids",
  ),
)  # fmt: skip

HALF = r"visual\.(conv1\.weight|proj)|text_projection|.*\.(attn\..*|c_fc\..*|c_proj\..*)"
"""The keys that OpenAI's own files keep in float16; the rest is float32."""


def load(path: epath.PathLike, *, activation: str = "quick_gelu") -> Imported:
  """Read a `.pt` (a state dict or TorchScript, float16 or float32) or a `.safetensors` with OpenAI's keys.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a broken file, another architecture, or a missing or unknown key.
  """
  state = read_state(path)
  found = names.infer(TABLE, state, str(path))
  image, text = found["image"], found["text"]
  for tower in (image, text):
    tower |= dict(heads=max(1, tower["width"] // HEAD_WIDTH), activation=activation)
  config = dict(image={**image, "pool": "cls"}, text={**text, "pool": "argmax"}, dim=found["dim"])
  params = to_params(state, dual_encoder.build_from(**config), str(path))
  notes = [f"{path} has OpenAI's keys and no config: {activation}, heads of 64, CLIP's preprocessing and tokenizer"]
  tokenizer = clip_tokenizer(text["vocab"], text["length"], notes, path)
  return Imported(config, params, clip_preprocess(image["image_size"]), tokenizer, notes).check(path)


def save(path: epath.PathLike, imported: Imported, *, half: bool = False) -> list[str]:
  """Write a plain state dict `.pt` with OpenAI's keys; `half` as OpenAI's own files: maps in float16.

  Returns what was left out, in sentences: nothing.

  Raises:
    ValueError: the format cannot hold the model: its readers assume QuickGELU, heads of 64, CLIP's vocabulary and
      preprocessing, and pooling at the largest id.
  """
  model, limits = imported.model(), Limits("openai", path)
  for tower in (model.image, model.text):
    limits.usual(tower, activation="quick_gelu", heads=max(1, tower.width // HEAD_WIDTH))
  limits.usual(model.image, pool="cls", norm_pre=True, patch_bias=False)
  limits.usual(model.text, causal=True)
  if not largest_id_ends(model.text):
    limits.add(f"text.pool = {model.text.pool!r}", "'argmax'")
  limits.tokenizer(imported.tokenizer, "clip_bpe")
  limits.preprocess(imported.preprocess, clip_preprocess(model.image.image_size))
  limits.close()
  state = names.to_theirs(TABLE, imported.params, str(path))
  if half:
    state = {k: v.astype(np.float16) if names.matches(HALF, k) else v for k, v in state.items()}
  epath.Path(path).parent.mkdir(parents=True, exist_ok=True)
  torch_writer.write(path, state)
  return []


def is_training_checkpoint(path: epath.PathLike) -> bool:
  """Whether a file holds a state dict among other things (open_clip's {epoch, name, state_dict, optimizer})."""
  content = torch_reader.read(path)
  return isinstance(content, dict) and "state_dict" in content


def read_state(path: epath.PathLike) -> dict[str, np.ndarray]:
  """The state dict of a file by its kind, without the prefixes that training wrappers put before every key."""
  suffix = epath.Path(path).suffix
  reader = safetensors_reader if suffix in (".safetensors", ".json") else torch_reader
  state = reader.state_dict(path)
  for prefix in ("module.", "_orig_mod."):
    if state and all(key.startswith(prefix) for key in state):
      state = {key.removeprefix(prefix): array for key, array in state.items()}
  if "visual.layer1.0.conv1.weight" in state:
    raise ValueError(f"{path}: the image tower is a ResNet; vljax reads CLIP models with a ViT")
  return state


def to_params(state: Mapping[str, np.ndarray], model: dual_encoder.DualEncoder, where: str) -> Any:
  """The parameters of a model from a state dict with these keys."""
  absent = () if model.image.norm_pre else ("image/norm_pre",)
  return names.to_ours(TABLE, state, model, where, absent)
