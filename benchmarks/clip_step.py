"""A CLIP train step, float32, against transformers' CLIPModel with torch's AdamW in the same process."""

from collections.abc import Callable

import jax

from benchmarks import rivals
from benchmarks.sizes import Size, train_step
from benchmarks.timing import Result


def run(repeats: int) -> Result:
  """Milliseconds of one step, and how many times faster it is than torch's."""
  return rivals.compare("CLIP train step, float32, AdamW", "pairs", ours, theirs, repeats)


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
