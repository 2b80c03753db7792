"""Runs that are interrupted end as if they had not been."""

import re
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from vljax import recipes
from vljax.checkpoint import Manager, metadata
from vljax.data import vocabulary
from vljax.train import writers
from vljax.train.trainer import Trainer

RUN = (
  "--config=configs/contrastive/clip_quickstart.py:smoke",
  "--config.steps=20",
  "--config.checkpoint.every=5",
  "--config.checkpoint.keep=9",
  "--config.ema.halflife=64.0",
  "--config.image.patch_dropout=0.5",
  "--config.text.dropout=0.1",
)
"""Twenty steps with dropout and an average: 160 examples of 59, so that the order of the data starts anew twice."""


def everything(workdir):
  """Name to array of all that the newest checkpoint of a run of one device holds, and its data position."""
  parsed = recipes.parse(metadata.read(workdir).config)
  tokenizer = vocabulary.prepare(parsed.tokenizer, workdir)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, "devices", lambda devices=jax.devices()[:1]: devices)
    trainer = Trainer(recipes.build(parsed, tokenizer), parsed, tokenizer)
  with trainer.use(), Manager(workdir) as manager:
    state, data, step = manager.restore(trainer.target())
  state = state.replace(rng=jax.random.key_data(state.rng))
  return jax.tree.map(np.asarray, state), data, step


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a[0], b[0])
  assert a[1:] == b[1:]


def finish(process, seconds=200, status=0):
  errors = process.communicate(timeout=seconds)[1]
  assert process.returncode == status, errors
  return errors


def wait_for(condition, process, seconds=150):
  deadline = time.monotonic() + seconds
  while not condition():
    assert process.poll() is None, process.communicate()[1]
    assert time.monotonic() < deadline
    time.sleep(0.02)


def losses(workdir):
  return {row["step"]: row["clip/train/loss"] for row in writers.read(workdir)}


@pytest.fixture(scope="module")
def straight(start_training, tmp_path_factory):
  """The run that nothing interrupts: its folder, and all that it ends with."""
  workdir = tmp_path_factory.mktemp("straight") / "run"
  finish(start_training(*RUN, f"--workdir={workdir}"))
  return workdir, everything(workdir)


def kill_and_finish(start_training, workdir, condition):
  process = start_training(*RUN, f"--workdir={workdir}")
  wait_for(condition, process)
  process.send_signal(signal.SIGKILL)
  process.wait()
  return finish(start_training(*RUN, f"--workdir={workdir}"))


@pytest.mark.slow
def test_killed_and_started_again_equals_straight(straight, start_training, tmp_path):
  workdir = tmp_path / "run"
  report = kill_and_finish(start_training, workdir, lambda: (workdir / "checkpoints/10").exists())
  assert re.search(r"start +resumed from step (10|15) of ", report)
  found = everything(workdir)
  equal(found, straight[1])
  assert found[1:] == ({"train": 160}, 20), "twenty batches of eight, not one twice"
  assert losses(workdir) == losses(straight[0])


@pytest.mark.slow
@pytest.mark.parametrize(
  ("number", "flags", "status"), [(signal.SIGTERM, ("--preempted_status=75",), 75), (signal.SIGINT, (), 0)]
)
def test_a_signal_saves_and_the_run_goes_on(straight, start_training, tmp_path, number, flags, status):
  workdir = tmp_path / "run"
  process = start_training(*RUN, *flags, f"--workdir={workdir}")
  wait_for(lambda: (workdir / "metrics.jsonl").exists() and len(losses(workdir)) >= 6, process)
  process.send_signal(number)
  report = finish(process, status=status)
  saved = int(re.search(r"preempted: saved step (\d+); start the same command again to go on", report)[1])
  assert 6 <= saved < 20
  assert f"resumed from step {saved} of" in finish(start_training(*RUN, f"--workdir={workdir}"))
  equal(everything(workdir), straight[1])
  assert losses(workdir) == losses(straight[0])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(straight, start_training, tmp_path):
  workdir = shutil.copytree(straight[0], tmp_path / "run")
  for later in ("15", "20"):
    shutil.rmtree(workdir / "checkpoints" / later)
  files = [p for p in (workdir / "checkpoints/10/state").rglob("*") if p.is_file()]
  largest = max(files, key=lambda p: p.stat().st_size)
  largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
  report = finish(start_training(*RUN, f"--workdir={workdir}"))
  message = r"using step 5, since later checkpoints are damaged: step 10: \S+ has \d+ bytes; \d+ were written"
  assert re.search(message, report)
  assert "resumed from step 5 of" in report
  assert (workdir / "checkpoints/10.damaged").exists()
  equal(everything(workdir), straight[1])


@pytest.mark.slow
def test_a_run_goes_on_on_other_meshes(make_trainer, tmp_path):
  """8x1, then 4x2, then one device; each takes the state as it was and goes on."""
  from vljax.train import loop

  before, workdir = None, tmp_path / "run"
  for steps, devices, mesh in ((2, 8, "data=8"), (4, 8, "fsdp=2"), (6, 1, "data=1")):
    trainer = make_trainer(f"--config.mesh.{mesh}", f"--config.steps={steps}", devices=devices)
    if before is not None:
      with trainer.use(), Manager(workdir) as manager:
        restored, data, step = manager.restore(trainer.target())
      jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, restored.params), before)
      assert (data, step) == ({"train": 8 * (steps - 2)}, steps - 2)
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(loop, "Trainer", lambda *args, trainer=trainer: trainer)
      state = loop.run(trainer.recipe, trainer.config, workdir)
    before = jax.tree.map(np.asarray, state.params)
  found = losses(workdir)
  assert list(found) == [1, 2, 3, 4, 5, 6]
  assert np.isfinite(list(found.values())).all()


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(smoke, smoke_workdir, capsys):
  from vljax import experiment

  files = {p: p.stat().st_mtime_ns for p in (smoke_workdir / "checkpoints").rglob("*")}
  assert experiment.train(smoke(), smoke_workdir)
  assert "complete    all 2 steps are done; a larger config.steps goes on" in capsys.readouterr().err
  assert {p: p.stat().st_mtime_ns for p in (smoke_workdir / "checkpoints").rglob("*")} == files


@pytest.mark.slow
def test_what_changed_since_the_run_began_is_said(smoke, smoke_workdir, capsys):
  from vljax import experiment

  assert experiment.train(smoke("--config.schedule.lr=0.5", "--config.steps=2"), smoke_workdir)
  assert "changed     config.schedule.lr: 0.001 -> 0.5" in capsys.readouterr().err


@pytest.mark.long
def test_twenty_kills_at_random_times(start_training, tmp_path):
  """Killed at any moment, in saving too, a run loses nothing but time."""
  run = (*RUN, "--config.steps=600", "--config.checkpoint.every=2")
  straight, workdir, rng = tmp_path / "straight", tmp_path / "run", np.random.default_rng(0)
  finish(start_training(*run, f"--workdir={straight}"), 1800)
  for _ in range(20):
    process = start_training(*run, f"--workdir={workdir}")
    seen = latest(workdir)
    wait_for(lambda: latest(workdir) > seen, process)  # noqa: B023
    time.sleep(rng.uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.wait()
  finish(start_training(*run, f"--workdir={workdir}"), 1800)
  equal(everything(workdir), everything(straight))
  assert losses(workdir) == losses(straight)


def latest(workdir):
  """The newest checkpoint's step."""
  folder = workdir / "checkpoints"
  return max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0) if folder.exists() else 0
