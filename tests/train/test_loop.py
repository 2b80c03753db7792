"""The loop on a recipe of six numbers: colors regressed to gray."""

import contextlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import config
from vljax.checkpoint import Manager, load_params, lock
from vljax.evaluate.schedule import Eval
from vljax.train import loop, writers
from vljax.train.recipe import Phase, Recipe
from vljax.train.run import Run


def recipe(streams=("train",), trains=".*", **fields):
  def init(rng, batch):
    a, b = jax.random.split(rng)
    return {"color": {"w": jax.random.normal(a, (3,))}, "gain": {"w": jax.random.normal(b, (3,))}}, {}

  def loss(params, extras, batch, rng):
    color = batch["image"].astype(jnp.float32).mean((1, 2)) / 255
    gray = color @ (params["color"]["w"] * params["gain"]["w"])
    return {"loss": jnp.sum(jnp.square(gray - color.mean(-1)))}, {}, extras

  return Recipe(init=init, phases=(Phase(name="gray", loss=loss, streams=streams, trains=trains),), **fields)


def settings(steps=6, streams=("train",), last_every=1, **values):
  stream = lambda i: dict(source=f"synthetic:pairs?n=40&size=8&seed={i}", batch=8, transforms=[("keep", "image")])
  values = {"checkpoint": {"every": 2, "keep": 9}, "log_every": 1, "schedule": {"lr": 0.1}, **values}
  found = {name: stream(i) for i, name in enumerate(streams)}
  found[streams[-1]]["every"] = last_every
  return config.parse(dict(recipe="gray", steps=steps, streams=found, **values), Run)


def rows(workdir, key="gray/train/loss"):
  return {row["step"]: row[key] for row in writers.read(workdir) if key in row}


def host(state):
  return jax.tree.map(np.asarray, state.replace(rng=jax.random.key_data(state.rng)))


def stop_at(monkeypatch, at):
  monkeypatch.setattr(loop.preemption, "watch", lambda: contextlib.nullcontext(lambda step: step == at))


def test_a_run_learns_reports_and_saves(tmp_path, capsys):
  state = loop.run(recipe(), settings(), tmp_path)
  assert int(state.step) == 6
  found = rows(tmp_path)
  assert list(found) == [1, 2, 3, 4, 5, 6]
  assert found[6] < found[1]
  assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [2, 4, 6]
  row = writers.read(tmp_path)[-1]
  assert {"gray/lr", "gray/grad_norm", "skipped", "data/train/broken", "time/goodput"} <= set(row)
  shown = capsys.readouterr().err
  assert re.search(r"compiled +program 1: gray\(train\) in ", shown)
  assert "compiled    program 2" not in shown


@pytest.mark.slow
def test_preemption_saves_and_the_rest_follows(tmp_path, monkeypatch):
  whole = loop.run(recipe(), settings(), tmp_path / "whole")
  stop_at(monkeypatch, 3)
  assert loop.run(recipe(), settings(), tmp_path / "parts") is None
  assert load_params(tmp_path / "parts", step=3)
  parts = loop.run(recipe(), settings(), tmp_path / "parts")
  jax.tree.map(np.testing.assert_array_equal, host(whole), host(parts))
  assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def test_a_signal_in_the_last_step_finds_the_run_done(tmp_path, monkeypatch):
  stop_at(monkeypatch, 6)
  evals = {"e": Eval(lambda predict, params: {"m": 1.0})}
  assert int(loop.run(recipe(evals=evals), settings(), tmp_path).step) == 6
  assert rows(tmp_path, "e/m") == {6: 1.0}


def test_an_evaluation_that_fails_at_the_end_costs_no_step(tmp_path, capsys):
  calls = []

  def fail(predict, params):
    calls.append("fail")
    raise ValueError("no such file")

  with pytest.raises(ValueError, match="no such file"):
    loop.run(recipe(evals={"e": Eval(fail)}), settings(checkpoint={"every": 1000, "keep": 1}), tmp_path)
  assert load_params(tmp_path, step=6)
  mended = recipe(evals={"e": Eval(lambda predict, params: calls.append("right") or {"m": 1.0})})
  for _ in range(2):
    assert int(loop.run(mended, settings(), tmp_path).step) == 6
  assert calls == ["fail", "right"]
  assert rows(tmp_path, "e/m") == {6: 1.0}
  assert list(rows(tmp_path)) == [1, 2, 3, 4, 5, 6]
  assert "complete    all 6 steps are done" in capsys.readouterr().err


def test_an_evaluation_that_a_signal_forestalled_follows(tmp_path, monkeypatch):
  calls = []
  evals = {"e": Eval(lambda predict, params: calls.append(1) or {"m": len(calls)}, every=3)}
  stop_at(monkeypatch, 3)
  assert loop.run(recipe(evals=evals), settings(), tmp_path) is None
  assert calls == []
  assert loop.run(recipe(evals=evals), settings(), tmp_path) is not None
  assert rows(tmp_path, "e/m") == {3: 1, 6: 2}
  stop_at(monkeypatch, 7)
  assert loop.run(recipe(evals=evals), settings(8), tmp_path) is None
  assert loop.run(recipe(evals=evals), settings(8), tmp_path) is not None
  assert rows(tmp_path, "e/m") == {3: 1, 6: 2, 8: 3}


def test_a_workdir_is_trained_by_one_run_at_a_time(tmp_path, monkeypatch):
  monkeypatch.setattr(loop.lock.hold.__wrapped__, "__defaults__", (0.0,))
  with lock.hold(tmp_path), pytest.raises(ValueError, match="is trained by another run"):
    loop.run(recipe(), settings(), tmp_path)
  assert int(loop.run(recipe(), settings(), tmp_path).step) == 6


def test_evaluations_follow_their_schedule_and_read_the_average(tmp_path):
  seen = []

  def look(predict, params):
    seen.append((predict["name"], float(params["color"]["w"][0])))
    return {"m": len(seen)}

  evals = {"ema": Eval(look, every=4, first=True), "params": Eval(look, weights="params")}
  state = loop.run(recipe(evals=evals, predict={"name": "p"}), settings(ema=dict(halflife=16.0)), tmp_path)
  assert rows(tmp_path, "ema/m") == {0: 1, 4: 2, 6: 3}
  assert rows(tmp_path, "params/m") == {6: 4}
  assert seen[2] == ("p", float(state.ema["color"]["w"][0]))
  assert seen[3] == ("p", float(state.params["color"]["w"][0]))
  assert seen[2] != seen[3]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("combine", "every", "consumed", "programs"),
  [("accumulate", 1, (6, 6), 1), ("accumulate", 4, (6, 2), 2), ("round_robin", 1, (3, 3), 2)],
)
def test_each_stream_goes_on_where_it_was(tmp_path, monkeypatch, combine, every, consumed, programs, capsys):
  names = ("pairs", "video")
  run = lambda workdir: loop.run(recipe(names), settings(6, names, every, combine=combine), tmp_path / workdir)
  whole = run("whole")
  stop_at(monkeypatch, 3)
  assert run("parts") is None
  parts = run("parts")
  jax.tree.map(np.testing.assert_array_equal, host(whole), host(parts))
  with Manager(tmp_path / "parts") as manager:
    _, data, _ = manager.restore(host(whole).replace(rng=whole.rng))
  assert (data["pairs"] // 8, data["video"] // 8) == consumed
  shown = capsys.readouterr().err
  assert f"program {programs}:" in shown
  assert f"program {programs + 1}:" not in shown


@pytest.mark.slow
def test_frozen_leaves_are_written_once(tmp_path, monkeypatch):
  frozen = recipe(trains="gain/.*")
  stop_at(monkeypatch, 3)
  assert loop.run(frozen, settings(), tmp_path) is None
  files = {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints/frozen").rglob("*") if p.is_file()}
  before, _ = load_params(tmp_path)
  state = loop.run(frozen, settings(), tmp_path)
  assert {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints/frozen").rglob("*") if p.is_file()} == files
  after, _ = load_params(tmp_path)
  np.testing.assert_array_equal(before["color"]["w"], after["color"]["w"])
  assert not np.array_equal(before["gain"]["w"], after["gain"]["w"])
  assert state.opt["gray"].mu["color"]["w"] is None


@pytest.mark.slow
def test_a_second_stage_starts_from_the_first(tmp_path, capsys):
  first = loop.run(recipe(), settings(), tmp_path / "first")
  start = lambda regex: dict(steps=2, init=[(str(tmp_path / "first"), regex, "")], schedule=dict(lr=0.0), seed=5)
  with pytest.raises(ValueError, match=r"^config.init\[0\] = .*the regex 'colour/\.\*' matches no leaf of the source"):
    loop.run(recipe(), settings(**start("colour/.*")), tmp_path / "bad")
  second = loop.run(recipe(), settings(**start("color/.*"), ema=dict(halflife=8.0)), tmp_path / "second")
  np.testing.assert_array_equal(second.params["color"]["w"], first.params["color"]["w"])
  np.testing.assert_array_equal(second.ema["color"]["w"], first.params["color"]["w"])
  assert not np.array_equal(second.params["gain"]["w"], first.params["gain"]["w"])
  assert re.search(r"start +1 leaves of \S+/first \(hash [0-9a-f]{12}\)", capsys.readouterr().err)


def test_fewer_steps_than_were_done_change_nothing(tmp_path, capsys):
  loop.run(recipe(), settings(), tmp_path)
  state = loop.run(recipe(), settings(steps=4), tmp_path)
  assert int(state.step) == 6
  assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [2, 4, 6]
  assert "complete    all 4 steps are done" in capsys.readouterr().err


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_named_and_passed_over(tmp_path, capsys):
  base = recipe()

  def spoil(batch, rng):
    bad = jnp.where(batch["image"][0, 0, 0, 0] > 100, jnp.nan, 1.0)
    return {**batch, "bad": jnp.full(len(batch["image"]), bad)}

  def loss(params, extras, batch, rng):
    terms, metrics, extras = base.phases[0].loss(params, extras, batch, rng)
    return {"loss": terms["loss"] * batch["bad"].mean()}, metrics, extras

  spoiled = Recipe(init=base.init, phases=(Phase(name="gray", loss=loss),), prepare=spoil)
  state = loop.run(spoiled, settings(steps=12), tmp_path)
  assert 0 < int(state.skipped) < 12
  assert np.isfinite(state.params["gain"]["w"]).all()
  assert "the gradient of gray: color/w is not finite; the update was skipped" in capsys.readouterr().err
