"""The dual encoders that the benchmarks time, ours through the ordinary recipe and train step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vljax import parallel, recipes
from vljax.parallel import rules
from vljax.recipes import clip
from vljax.train import schedules, state
from vljax.train.optim import Group, Optimiser
from vljax.train.run import Run, Stream
from vljax.train.step import Step, due_at


@dataclasses.dataclass(frozen=True)
class Size:
  """A CLIP by its numbers; the batch is small enough for a laptop."""

  name: str
  batch: int
  image_size: int
  patch: int
  width: int
  depth: int
  heads: int
  text_width: int
  text_depth: int
  text_heads: int
  vocab: int
  length: int
  dim: int

  def config(self) -> clip.Config:
    """The recipe's config: QuickGELU and AdamW, as the rival has them, float32."""
    image = dict(image_size=self.image_size, patch=self.patch, width=self.width, depth=self.depth, heads=self.heads)
    text = dict(
      vocab=self.vocab, length=self.length, width=self.text_width, depth=self.text_depth, heads=self.text_heads
    )
    both = dict(variant="test", activation="quick_gelu")
    return clip.Config(
      recipe="clip",
      steps=1000,
      streams={"train": Stream(source="synthetic:pairs", batch=self.batch)},
      image={**both, "mlp": 4 * self.width, **image},
      text={**both, "mlp": 4 * self.text_width, **text},
      dim=self.dim,
      optim=((".*", Group(wd=0.01)),),
      schedule=schedules.Schedule(name="constant", lr=1e-4),
    )

  def pairs(self, seed: int = 0) -> dict[str, np.ndarray]:
    """uint8 images [b h w c], and tokens [b t] whose last is the end-of-text token."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (self.batch, self.image_size, self.image_size, 3), np.uint8)
    tokens = rng.integers(1, self.vocab - 1, (self.batch, self.length), np.int32)
    tokens[:, -1] = self.vocab - 1
    return {"image": image, "tokens": tokens}


def train_step(config: Run, batch: dict[str, np.ndarray]) -> tuple[state.State, Callable[..., Any]]:
  """A fresh state on the default mesh, and `step(state, batch) -> (state, metrics)`, not yet compiled."""
  recipe = recipes.build(config)
  mesh = parallel.mesh.make(config.mesh)
  batch = parallel.arrays.to_global(batch, mesh)
  layout = state.Layout(recipe, batch)
  rate = schedules.build(config.schedule, config.steps)
  optimisers = {slot: Optimiser(config.optim, rate, layout.params, cut=cut) for slot, cut in layout.splits.items()}
  with parallel.use(mesh, rules.DEFAULT):
    fresh, where = state.make(recipe, layout, optimisers, jax.random.key(0), batch, mesh, rules.DEFAULT)
  shares = {name: stream.share for name, stream in config.streams.items()}
  step = Step(recipe, layout, optimisers, shares, shardings=where)
  due = due_at(recipe, 0)

  def run(old: state.State, batch: dict[str, Any]) -> tuple[state.State, Any]:
    with parallel.use(mesh, rules.DEFAULT):
      return step(old, {"train": batch}, due)

  return fresh, run


SMALL = Size("ViT 64px/8 d256 L6", 64, 64, 8, 256, 6, 4, 256, 4, 4, 1024, 32, 256)
VIT_B_32 = Size("ViT-B/32", 8, 224, 32, 768, 12, 12, 512, 12, 8, 49408, 77, 512)
SIZES = (SMALL, VIT_B_32)
