"""Torch models to compare with, built with random weights; None where torch or transformers is not installed."""

import importlib.util
from collections.abc import Callable
from typing import Any

from benchmarks.sizes import SIZES, Size
from benchmarks.timing import Result, interleaved, milliseconds, ratio

HOW = "torch and transformers are not installed, so nothing is compared; `make parity` installs them."

_registered: list[Any] = []


def installed() -> bool:
  """Whether torch and transformers can be compared with."""
  return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def compare(
  title: str, things: str, ours: Callable[[Size], Callable], theirs: Callable[[Size], Callable], repeats: int
) -> Result:
  """Milliseconds of one call at each size, and how many times faster it is than torch's; a batch is of `things`."""
  rows = []
  for size in SIZES:
    functions = {"vljax": ours(size), **({"torch": theirs(size)} if installed() else {})}
    seconds = interleaved(functions, repeats)
    times = {f"{name} ms": milliseconds(seconds, name) for name in ("vljax", "torch")}
    speed = {"torch / vljax": ratio(seconds, "torch"), f"vljax {things}/s": round(size.batch / seconds["vljax"], 1)}
    rows.append({"model": size.name, "batch": size.batch, **times, **speed})
  return Result(title, rows, "at least 1.0x torch", [] if installed() else [HOW])


def torchvision() -> Any:
  """PyPI's torchvision beside a CPU build of torch, or None where it is not installed.

  It cannot load its compiled operators, and then its import fails because it describes two operators that nobody
  defined. Defining them (never called here) is enough.
  """
  import torch

  if not importlib.util.find_spec("torchvision"):
    return None
  try:
    import torchvision
  except RuntimeError:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
      library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _registered.append(library)  # the definitions live as long as the library object
    import torchvision
  return torchvision


def transformers() -> Any:
  """The transformers package, quiet, importable beside such a torchvision."""
  torchvision()
  import transformers

  transformers.logging.set_verbosity_error()
  transformers.logging.disable_progress_bar()
  return transformers


def clip(size: Size) -> Any:
  """transformers' CLIPModel of these sizes, float32."""
  config = transformers().CLIPConfig(
    projection_dim=size.dim,
    vision_config=dict(
      image_size=size.image_size,
      patch_size=size.patch,
      hidden_size=size.width,
      num_hidden_layers=size.depth,
      num_attention_heads=size.heads,
      intermediate_size=4 * size.width,
      projection_dim=size.dim,
    ),
    text_config=dict(
      vocab_size=size.vocab,
      max_position_embeddings=size.length,
      hidden_size=size.text_width,
      num_hidden_layers=size.text_depth,
      num_attention_heads=size.text_heads,
      intermediate_size=4 * size.text_width,
      projection_dim=size.dim,
      eos_token_id=size.vocab - 1,
    ),
  )
  return transformers().CLIPModel(config)


def inputs(size: Size) -> tuple[Any, Any]:
  """Normal images [b c h w] and tokens [b t] as torch tensors."""
  import torch

  pixels = torch.randn(size.batch, 3, size.image_size, size.image_size)
  return pixels, torch.from_numpy(size.pairs()["tokens"]).long()
