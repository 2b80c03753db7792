"""SigLIP as open_clip has it: a timm ViT as `visual.trunk`, the text tower's keys under `text`.

timm's name decides what the weights do not tell. For most of the first SigLIP models it has the exact GELU, where
big_vision, which trained them, and transformers have the tanh form.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vljax import config as config_lib
from vljax.interop import names, openai, timm_vit
from vljax.interop.limits import Limits
from vljax.interop.names import Table, linear, need, row
from vljax.interop.timm_vit import SIGLIP as ACTIVATIONS
from vljax.models.vit import ViT

FIRST = "visual.trunk.pos_embed"
"""A key that only these models have."""

FIELDS = dict(scale_init=0.0, bias_init=0.0, max_scale=None, image_projection="none", text_projection="affine")
"""What each has besides its towers; the scores' scale and bias come with the weights."""

EPSILON = 1e-6
WIDTHS = {"base": 768, "large": 1024, "so400m": 1152, "giantopt": 1536}

TABLE = Table(
  rows=(
    row("text/pos", "positional_embedding"),
    *linear("text_head", "text_projection"),
    row("log_scale", "logit_scale", "scalar"),
    row("bias", "logit_bias", "scalar"),
    *timm_vit.without("visual.trunk.", ("image/cls", "image/norm_pre")),
    *openai.WORDS,
  ),
  dropped=(r"(.*\.)?attn_mask",),
)
"""With the text tower's keys as those of CLIP, without `text.` in front."""


def infer(state: Mapping[str, np.ndarray], vision: Mapping[str, Any], where: str) -> dict[str, Any]:
  """What `dual_encoder.build_from` needs, but the text tower's settings that shapes do not tell.

  Raises:
    ValueError: no timm name or an unknown one, another pooling, or a key that is needed is missing.
  """
  name = vision.get("timm_model_name")
  if name is None:
    raise ValueError(f"{where} gives no vision_cfg.timm_model_name, which alone tells the activation of visual.trunk")
  activation = config_lib.choose(f"vision_cfg.timm_model_name in {where}", name, ACTIVATIONS)
  for key, legal in (("timm_pool", "map"), ("timm_proj", "none")):
    if vision.get(key) != legal:
      raise ValueError(f"{where}: vision_cfg.{key} = {vision.get(key)!r}; legal with {name}: {legal!r}")
  width, _, _, patch = need(state, "visual.trunk.patch_embed.proj.weight", where).shape
  places = need(state, FIRST, where).shape[1]
  grid = round(places**0.5)
  if grid**2 != places:
    raise ValueError(f"{where}: {places} image positions are no square of patches")
  found = (re.match(r"visual\.trunk\.blocks\.(\d+)\.", key) for key in state)
  image = dict(
    image_size=grid * patch,
    patch=patch,
    width=width,
    depth=1 + max(int(n[1]) for n in found if n),
    heads=timm_vit.HEADS.get(width, max(1, width // 64)),
    mlp=need(state, "visual.trunk.blocks.0.mlp.fc1.bias", where).shape[0],
    activation=activation,
    epsilon=EPSILON,
    pool="map",
    norm_pre=False,
    patch_bias=True,
  )
  text, dim = names.infer_text(TABLE, state, where)
  return dict(image=image, text=text, dim=dim, **FIELDS)


def vision_cfg(image: ViT, limits: Limits) -> dict[str, Any]:
  """open_clip's `vision_cfg` of an image tower; notes what timm has no name for."""
  sizes = {width: word for word, width in WIDTHS.items()}
  name = f"vit_{sizes.get(image.width)}_patch{image.patch}_siglip_{image.image_size}"
  if name in ACTIVATIONS:
    heads = timm_vit.HEADS.get(image.width, image.width // 64)
    limits.usual(
      image, activation=ACTIVATIONS[name], epsilon=EPSILON, heads=heads, pool="map", norm_pre=False, patch_bias=True
    )
  else:
    limits.add(f"an image tower of width {image.width}, patch {image.patch}, size {image.image_size}", "timm's names")
  return dict(
    image_size=image.image_size,
    timm_model_name=name,
    timm_model_pretrained=False,
    timm_pool="map",
    timm_proj="none",
  )


def with_prefix(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The state dict with `text.` in front of the text tower's keys."""
  return {key if key.startswith(("visual.", "logit_")) else f"text.{key}": x for key, x in state.items()}
