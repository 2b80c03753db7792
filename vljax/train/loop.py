"""The one training loop: streams in, steps, metrics, evaluations and checkpoints out. It knows no model."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from vljax.checkpoint import Manager, Metadata, lock, partial, preemption
from vljax.evaluate import schedule as evaluations
from vljax.interop.weights import load as load_weights
from vljax.parallel import processes
from vljax.train import summary
from vljax.train.metrics import Goodput, Late, Meter, Row
from vljax.train.progress import Progress
from vljax.train.recipe import Due, Recipe
from vljax.train.run import Run
from vljax.train.state import State
from vljax.train.trainer import Trainer
from vljax.train.writers import FILE as METRICS
from vljax.train.writers import Multi
from vljax.train.writers import build as build_writers
from vljax.train.writers import read as read_metrics
from vljax.types import Batch

INIT = "init.json"
"""The file of a workdir that says which leaves came from which run by `config.init`, with their hash."""


class NotFinite(FloatingPointError):
  """Too many steps in a row had gradients that are not finite; the last checkpoint is from before them."""


def run(
  recipe: Recipe,
  config: Run,
  workdir: epath.PathLike,
  *,
  tokenizer: Any = None,
  metadata: Metadata | None = None,
  resize: partial.Resize | None = None,
) -> State | None:
  """Train a recipe until its last step, from the newest checkpoint in `workdir` if there is one.

  Resuming goes by this order: 1. the newest good checkpoint of `workdir`, with its data position; 2. `config.init`,
  parts of other runs; 3. a fresh state. The state is saved at the configured steps, at the last, and on SIGTERM.

  Args:
    tokenizer: of the streams' `tokenize`.
    metadata: stored with each checkpoint; must mean the same as what the workdir holds.
    resize: see `checkpoint.partial`; for `config.init` at other sizes.

  Returns:
    The last state, or None if the run was preempted (it is saved, and goes on when started again).

  Raises:
    ValueError: a config that cannot run (see Trainer), or a workdir of another meaning or that another run holds.
    NotFinite: `config.max_bad_steps` steps in a row were not finite; names the first bad leaf.
  """
  workdir = epath.Path(workdir)
  goodput = Goodput()
  with goodput.track("init"):
    trainer = Trainer(recipe, config, tokenizer)
    for evaluation in recipe.evals.values():
      evaluation.open()
  save = config.checkpoint
  alone, made = lock.hold(workdir), dict(keep=save.keep, every=save.every, metadata=metadata)
  with alone, trainer.use(), Manager(workdir, **made) as manager:
    with goodput.track("init"):
      state, consumed, resumed = _start(trainer, manager, resize)
    start = int(state.step)
    settings = metadata.to_json()["config"] if metadata else None
    with build_writers(workdir, config.writers, start, settings=settings) as writer:
      progress = Progress(config.steps, start, enabled=jax.process_index() == 0)
      for line in summary.lines(trainer, state, workdir, resumed):
        progress.say(line)
      life = _Life(trainer, manager, writer, progress, goodput, consumed)
      if start >= config.steps and not life.missed(start):
        progress.say(f"complete    all {config.steps:,} steps are done; a larger config.steps goes on")
        return state
      with progress, preemption.watch() as preempted:
        return life.run(state, preempted)


def _start(trainer: Trainer, manager: Manager, resize: partial.Resize | None) -> tuple[State, dict[str, int], str]:
  found = manager.restore(trainer.target())
  if found is not None:
    state, consumed, step = found
    return state, consumed, f"resumed from step {step:,} of {manager.folder}"
  state, resumed = trainer.fresh(), "fresh"
  if trainer.config.init:
    weights, records = partial.initialize(state.weights, trainer.config.init, load_weights, resize)
    params, extras = ({name: weights[name] for name in part} for part in (state.params, state.extras))
    state = state.replace(params=params, extras=extras)
    if state.ema is not None:
      moving = trainer.layout.moving(params)
      copied = jax.tree.map(lambda e, p: jnp.array(p, e.dtype), state.ema, moving)  # steps donate both
      state = state.replace(ema=copied)
    if jax.process_index() == 0:
      (manager.folder.parent / INIT).write_text(json.dumps(records, indent=2) + "\n")
    resumed = "; ".join(f"{len(r['leaves'])} leaves of {r['source']} (hash {r['hash'][:12]})" for r in records)
  frozen = trainer.layout.frozen(state.params)
  if jax.tree.leaves(frozen):
    manager.save_frozen({"params": frozen})
  return state, {}, resumed


class _Life:
  """The steps of one process's life."""

  def __init__(
    self,
    trainer: Trainer,
    manager: Manager,
    writer: Multi,
    progress: Progress,
    goodput: Goodput,
    consumed: dict[str, int],
  ):
    self.trainer, self.config = trainer, trainer.config
    self.manager, self.writer, self.progress, self.goodput = manager, writer, progress, goodput
    self.consumed = {name: consumed.get(name, 0) for name in trainer.streams}
    self.late = Late()
    self.due_at: dict[int, Due] = {}

  def run(self, state: State, preempted: Callable[[int], bool]) -> State | None:
    first, last = int(state.step), self.config.steps
    self.meter = Meter(self.goodput, last, first)
    self.loaders = self.trainer.loaders(self.consumed)
    try:
      if self.missed(first):
        self._evaluate(state, first)
      for step in range(first, last):
        state = self._step(state, step)
        done = step + 1
        if preempted(done) and done < last:
          self._flush()
          self._save(state, done, force=True)
          self.progress.say(f"preempted: saved step {done:,}; start the same command again to go on")
          return None
        if done == last:
          self._flush()
        self._save(state, done, force=done == last)
        self._evaluate(state, done)
    finally:
      for loader in self.loaders.values():
        loader.close()
    return state

  def missed(self, step: int) -> bool:
    """Whether evaluations are due at the step that this life begins with, and an earlier life did not come to them."""
    path = self.manager.folder.parent / METRICS
    found = read_metrics(path) if path.exists() else []
    row = next((row for row in found if row["step"] == step), {})
    there = (any(key.startswith(f"{name}/") for key in row) for name in self._due(step))
    return not processes.agree(all(there))

  def _step(self, state: State, step: int) -> State:
    due = self.trainer.due(step)
    streams = dict.fromkeys(part for _, stream in due for part in stream.split("+"))
    with self.goodput.track("data"):
      batches = {name: self.trainer.put(next(self.loaders[name])) for name in streams}
    for name in streams:
      self.consumed[name] += self.config.streams[name].batch
    program = self._program(state, batches, due)
    with self.goodput.track("step"):
      with jax.transfer_guard("disallow"):
        state, metrics = program.run(state, batches)
      self.due_at[step + 1] = due
      row = self.late.push(step + 1, metrics)
    self.meter.tick(step + 1, sum(self.config.streams[name].batch for name in streams), program.flops)
    self._report(row)
    return state

  def _program(self, state: State, batches: dict[str, Batch], due: Due) -> Any:
    programs = self.trainer.step.programs
    if due not in programs:
      with self.goodput.track("compile"):
        before = self.goodput.seconds("compile")
        self.trainer.step.compile(state, batches, due)
      names = ", ".join(f"{phase}({stream})" for phase, stream in due)
      seconds = self.goodput.seconds("compile") - before
      self.progress.say(f"compiled    program {len(programs)}: {names} in {seconds:.1f} s")
    return programs[due]

  def _report(self, row: Row | None) -> None:
    if row is None:
      return
    step, values = row
    due = self.due_at.pop(step)
    if values.get("streak", 0) >= self.config.max_bad_steps:
      leaf = self.trainer.step.leaf_names(due)[int(values["first_bad"])]
      raise NotFinite(
        f"step {step}: gradients were not finite {int(values['streak'])} steps in a row; first bad leaf {leaf}; "
        f"the updates were skipped, and the last checkpoint is step {self.manager.latest_step()}"
      )
    if values.get("first_bad", -1) >= 0:
      leaf = self.trainer.step.leaf_names(due)[int(values["first_bad"])]
      self.progress.say(f"step {step}: the gradient of {leaf} is not finite; the update was skipped")
    values |= {f"data/{name}/broken": loader.broken.count for name, loader in self.loaders.items()}
    values |= self.meter.report()
    if step % self.config.log_every == 0 or step in (1, self.config.steps):
      self.writer.write(step, values | self.goodput.report())
    self.progress.update(step, values)

  def _evaluate(self, state: State, step: int) -> None:
    due = self._due(step)
    if not due:
      return
    self._flush()
    with self.goodput.track("eval"):
      report = evaluations.run(due, self.trainer.recipe.predict, state.weights, ema=state.averaged)
    self.writer.write(step, report)
    for name, value in report.items():
      if not name.endswith("/chance"):
        chance = f" (chance {report[name + '/chance']:.3f})" if name + "/chance" in report else ""
        self.progress.say(f"step {step:,}  {name} {value:.3f}{chance}")

  def _due(self, step: int) -> dict[str, evaluations.Eval]:
    return evaluations.due(self.trainer.recipe.evals, step, last=step >= self.config.steps)

  def _save(self, state: State, step: int, force: bool = False) -> None:
    with self.goodput.track("checkpoint"):
      self.manager.save(step, state, self.consumed, force=force)

  def _flush(self) -> None:
    with self.goodput.track("step"):
      row = self.late.flush()
    self._report(row)
