"""What the training loop adds to the bare jitted step: loading, moving, logging, progress, the checkpoint's watch."""

import logging
import tempfile
import time
from unittest import mock

import jax

from benchmarks.timing import Result
from vljax import config as config_lib
from vljax.data import vocabulary
from vljax.recipes import clip
from vljax.train import loop, metrics
from vljax.train.trainer import Trainer

STEPS = 24
SETTLED = 4
SOURCE = "synthetic:pairs?n=256&size=32"


def run(repeats: int) -> Result:
  """Milliseconds of a step alone and within the loop; repetitions of both take turns."""
  settings = config()
  with tempfile.TemporaryDirectory() as folder:
    tokenizer = vocabulary.prepare(settings.tokenizer, folder)
    bare, looped = [], []
    for i in range(repeats + 1):
      times = (in_bare_steps(settings, tokenizer), in_loop(settings, tokenizer, f"{folder}/{i}"))
      if i:  # the first round fills the caches
        bare.append(times[0])
        looped.append(times[1])
  extra = sorted(b / a - 1 for a, b in zip(bare, looped, strict=True))[len(bare) // 2]
  row = {
    "config": f"clip_quickstart, batch {settings.streams['train'].batch}",
    "bare step ms": round(1e3 * sorted(bare)[len(bare) // 2], 2),
    "in the loop ms": round(1e3 * sorted(looped)[len(looped) // 2], 2),
    "overhead": f"{100 * extra:.2f} %",
  }
  return Result("loop.run over the bare jitted step", [row], "less than 1 %")


def config() -> clip.Config:
  """The quickstart on synthetic pictures without random crops, so that loading them costs next to nothing."""
  steps = [("decode",), ("choose_caption", "first"), ("tokenize",), ("keep", "image", "tokens")]
  overrides = [
    f"steps={STEPS}",
    f"streams.train.source={SOURCE}",
    f"streams.train.transforms={steps!r}",
    f"tokenizer.learn={SOURCE}",
    "tokenizer.size=300",
    "schedule.warmup=1",
    "checkpoint.every=1000000",
  ]
  return config_lib.parse(config_lib.load("configs/contrastive/clip_quickstart.py", overrides), clip.Config)


def in_bare_steps(settings: clip.Config, tokenizer: object) -> float:
  """Seconds of one call of the compiled step on a batch that lies on the device."""
  trainer = Trainer(clip.build(settings), settings, tokenizer)
  with trainer.use():
    state, loader = trainer.fresh(), trainer.loaders({})["train"]
    batches, due = {"train": trainer.put(next(loader))}, trainer.due(0)
    loader.close()
    trainer.step.compile(state, batches, due)
    program = trainer.step.programs[due]
    for i in range(STEPS):
      if i == SETTLED:
        jax.block_until_ready(state)
        start = time.perf_counter()
      state, _ = program.run(state, batches)
    jax.block_until_ready(state)
  return (time.perf_counter() - start) / (STEPS - SETTLED)


def in_loop(settings: clip.Config, tokenizer: object, workdir: str) -> float:
  """Seconds between the ends of two steps of an ordinary run."""
  ends: list[float] = []
  tick = metrics.Meter.tick

  def recorded(self, *args):
    ends.append(time.perf_counter())
    return tick(self, *args)

  logging.getLogger("absl").setLevel(logging.ERROR)
  with mock.patch.object(metrics.Meter, "tick", recorded):
    loop.run(clip.build(settings), settings, workdir, tokenizer=tokenizer)
  return (ends[-1] - ends[SETTLED - 1]) / (STEPS - SETTLED)
