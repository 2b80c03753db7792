"""A CLIP train step, float32, against transformers' CLIPModel with torch's AdamW in the same process."""

from collections.abc import Callable
from typing import Any

import jax

from benchmarks import rivals
from benchmarks.sizes import SIZES, Size, train_step
from benchmarks.timing import Result, interleaved, milliseconds, ratio


def run(repeats: int) -> Result:
  """Milliseconds of one step, and how many times faster it is than torch's."""
  rows = [time(size, repeats) for size in SIZES]
  notes = [] if rivals.installed() else [rivals.HOW]
  return Result("CLIP train step, float32, AdamW", rows, "at least 1.0x torch", notes)


def time(size: Size, repeats: int) -> dict[str, Any]:
  functions = {"vljax": ours(size)}
  if rivals.installed():
    functions["torch"] = theirs(size)
  seconds = interleaved(functions, repeats)
  return {
    "model": size.name,
    "batch": size.batch,
    "vljax ms": milliseconds(seconds, "vljax"),
    "torch ms": milliseconds(seconds, "torch"),
    "torch / vljax": ratio(seconds, "torch"),
    "vljax pairs/s": round(size.batch / seconds["vljax"], 1),
  }


def ours(size: Size) -> Callable[[], None]:
  batch = size.pairs()
  state, step = train_step(size.config(), batch)

  def once() -> None:
    nonlocal state
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))

  return once


def theirs(size: Size) -> Callable[[], None]:
  import torch

  model = rivals.clip(size).train()
  optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
  pixels, tokens = rivals.inputs(size)

  def once() -> None:
    optimiser.zero_grad(set_to_none=True)
    loss = model(input_ids=tokens, pixel_values=pixels, return_loss=True).loss
    loss.backward()
    optimiser.step()
    loss.item()

  return once
