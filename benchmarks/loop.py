"""What the training loop adds to the bare jitted step: loading, moving, logging, progress, the checkpoint's watch."""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
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
  with tempfile.TemporaryDirectory() as folder, programs_kept_in(f"{folder}/programs"):
    tokenizer = vocabulary.prepare(settings.tokenizer, folder)
    bare, times = bare_steps(settings, tokenizer), []
    for i in range(repeats + 1):
      times.append((bare(), in_loop(settings, tokenizer, f"{folder}/{i}")))
  alone, looped = zip(*times[1:], strict=True)  # the first round compiles and fills caches
  extra = statistics.median(b / a - 1 for a, b in times[1:])
  row = {
    "config": f"clip_quickstart, batch {settings.streams['train'].batch}",
    "bare step ms": round(1e3 * statistics.median(alone), 2),
    "in the loop ms": round(1e3 * statistics.median(looped), 2),
    "overhead": f"{100 * extra:.2f} %",
  }
  return Result("loop.run over the bare jitted step", [row], "less than 1 %")


@contextlib.contextmanager
def programs_kept_in(folder: str) -> Iterator[None]:
  """Compile each program once, whatever asks for it again."""
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", folder)
  try:
    yield
  finally:
    jax.config.update("jax_compilation_cache_dir", before)


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


def bare_steps(settings: clip.Config, tokenizer: Any) -> Callable[[], float]:
  """Seconds of one call of the compiled step on a batch that lies on the device."""
  trainer = Trainer(clip.build(settings), settings, tokenizer)
  with trainer.use():
    state, loader = trainer.fresh(), trainer.loaders({})["train"]
    batches, due = {"train": trainer.put(next(loader))}, trainer.due(0)
    loader.close()
    trainer.step.compile(state, batches, due)
  program = trainer.step.programs[due]

  def once() -> float:
    nonlocal state
    with trainer.use():
      for i in range(STEPS):
        if i == SETTLED:
          jax.block_until_ready(state)
          start = time.perf_counter()
        state, _ = program.run(state, batches)
      jax.block_until_ready(state)
    return (time.perf_counter() - start) / (STEPS - SETTLED)

  return once


def in_loop(settings: clip.Config, tokenizer: Any, workdir: str) -> float:
  """Seconds between the ends of two steps of an ordinary run, whose lines are not shown."""
  ends: list[float] = []
  tick = metrics.Meter.tick

  def recorded(self, *args):
    ends.append(time.perf_counter())
    return tick(self, *args)

  lines = io.StringIO()
  with (
    mock.patch.object(metrics.Meter, "tick", recorded),
    contextlib.redirect_stderr(lines),
    contextlib.redirect_stdout(lines),
  ):
    loop.run(clip.build(settings), settings, workdir, tokenizer=tokenizer)
  return (ends[-1] - ends[SETTLED - 1]) / (STEPS - SETTLED)
