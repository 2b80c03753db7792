"""Image embeddings from a picture batch, float32, against transformers' CLIPModel in the same process."""

from collections.abc import Callable
from typing import Any

import jax

from benchmarks import rivals
from benchmarks.sizes import Size
from benchmarks.timing import Result
from vljax.recipes import clip


def run(repeats: int) -> Result:
  """Milliseconds of one batch, and how many times faster it is than torch's."""
  return rivals.compare("encode_image, float32", "images", ours, theirs, repeats)


def ours(size: Size) -> Callable[[], Any]:
  recipe, batch = clip.build(size.config()), size.pairs()
  params, _ = jax.jit(recipe.init)(jax.random.key(0), batch)
  encode = recipe.predict["encode_image"]
  return lambda: jax.block_until_ready(encode(params, batch["image"]))


def theirs(size: Size) -> Callable[[], Any]:
  import torch

  model = rivals.clip(size).eval()
  pixels, _ = rivals.inputs(size)

  @torch.inference_mode()
  def once() -> Any:
    return model.get_image_features(pixel_values=pixels)

  return once
