"""SimCLR's two views at 224 px, drawn on the device, against its ResNet-50 step and against torchvision's pipeline."""

import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import rivals
from benchmarks.sizes import train_step
from benchmarks.timing import Result, interleaved, milliseconds, ratio
from vljax import config, recipes

CONFIG = pathlib.Path(__file__).parent.parent / "configs/contrastive/simclr_r50.py"
PIXELS = 256
"""Of the pictures that the host gives."""


def run(repeats: int) -> Result:
  """Milliseconds of two views of each picture of a batch, and their share of the whole step."""
  accelerated = jax.default_backend() != "cpu"
  batch, dtype = (256, "bfloat16") if accelerated else (8, "float32")
  parsed = recipes.parse(config.load(f"{CONFIG}:batch={batch}", [f"backbone.dtype={dtype}"]))
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (batch, PIXELS, PIXELS, 3), np.uint8)
  pictures = {"image": image, "label": np.zeros(batch, np.int32)}
  functions = {"vljax": views(parsed, pictures), "step": step(parsed, pictures)} | theirs(image)
  seconds = interleaved(functions, repeats)
  fastest = min((name for name in seconds if name.startswith("torchvision")), key=seconds.__getitem__, default="none")
  row = {
    "pictures": batch,
    "vljax ms": milliseconds(seconds, "vljax"),
    **{f"{name} ms": milliseconds(seconds, name) for name in ("torchvision on PIL", "torchvision on tensors")},
    "torchvision / vljax": ratio(seconds, fastest),
    "step ms": milliseconds(seconds, "step"),
    "share of the step": round(seconds["vljax"] / seconds["step"], 3),
  }
  notes = [] if fastest in seconds else ["torchvision is not installed; `make parity` installs it."]
  title = f"Two views at 224 px of pictures of {PIXELS} px, ResNet-50 in {dtype}"
  return Result(title, [row], "on a GPU less than a tenth of the step", notes)


def views(parsed: Any, pictures: dict[str, np.ndarray]) -> Callable[[], None]:
  """The recipe's `prepare` alone."""
  prepare = jax.jit(recipes.build(parsed).prepare)
  on_device = jax.device_put(pictures)
  keys = iter(range(1_000_000))
  return lambda: jax.block_until_ready(prepare(on_device, jax.random.key(next(keys))))


def step(parsed: Any, pictures: dict[str, np.ndarray]) -> Callable[[], None]:
  """A whole train step, the views in it."""
  state, run = train_step(parsed, pictures)

  def once() -> None:
    nonlocal state
    state, metrics = run(state, pictures)
    jax.block_until_ready((state, metrics))

  return once


def theirs(image: np.ndarray) -> dict[str, Callable[[], None]]:
  """The same operations of torchvision, two views of one picture after the other as in a loader."""
  if not importlib.util.find_spec("torch") or rivals.torchvision() is None:
    return {}
  import torch
  from PIL import Image
  from torchvision import transforms

  # Pillow knows no antialias flag; on tensors it is what Pillow does.
  see = transforms.Compose([
    transforms.RandomResizedCrop(224, interpolation=transforms.InterpolationMode.BICUBIC, antialias=True),
    transforms.RandomHorizontalFlip(),
    transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
    transforms.RandomGrayscale(0.2),
    transforms.RandomApply([transforms.GaussianBlur(23, (0.1, 2.0))], 0.5),
  ])  # fmt: skip
  scale = transforms.ToTensor()
  pil = [Image.fromarray(x) for x in image]
  tensors = [scale(x) for x in pil]
  return {
    "torchvision on PIL": lambda: torch.stack([scale(see(x)) for x in pil for _ in range(2)]),
    "torchvision on tensors": lambda: torch.stack([see(x) for x in tensors for _ in range(2)]),
  }
