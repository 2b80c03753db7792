import json

import pytest

from benchmarks import machine, run
from benchmarks.timing import Result, interleaved, milliseconds, ratio


@pytest.mark.slow
def test_calls_take_turns_and_warm_up_does_not_count():
  calls = []
  seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmup=2)
  assert calls == ["a", "b"] * 5
  assert set(seconds) == {"a", "b"}
  assert all(value >= 0 for value in seconds.values())


def test_a_rival_that_is_not_there_is_named():
  assert ratio({"vljax": 2.0, "torch": 3.0}, "torch") == 1.5
  assert ratio({"vljax": 2.0}, "torch") == "not installed"
  assert milliseconds({"vljax": 0.0123}, "vljax") == 12.3
  assert milliseconds({"vljax": 0.0123}, "torch") == "not installed"


def test_tables_are_markdown():
  result = Result("speed", [{"model": "a", "ms": 1.5}, {"model": "long name", "ms": 10}], "fast", ["a note"])
  text = run.render("speed", vars(result))
  assert text.splitlines()[0] == "### speed (goal: fast)"
  assert text.splitlines()[2:6] == [
    "| model     | ms  |",
    "| --------- | --- |",
    "| a         | 1.5 |",
    "| long name | 10  |",
  ]
  assert text.endswith("\n\na note")


def test_plain_results_become_one_row():
  assert "| images/s |" in run.render("loader", {"title": "loader", "images/s": 10})


def test_unknown_benchmark_is_named(capsys):
  with pytest.raises(SystemExit):
    run.main(["clip_stp"])
  assert "unknown benchmark clip_stp; legal: clip_step" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_writes_machine_versions_and_commit(tmp_path, capsys, monkeypatch):
  from benchmarks import attention

  monkeypatch.setattr(attention, "SHAPES", {"small/text": attention.SHAPES["small/text"]})
  assert run.main(["attention", "--repeats", "1", "--out", str(tmp_path / "deep/bench.json")]) == 0
  written = json.loads((tmp_path / "deep/bench.json").read_text())
  assert written["results"]["attention"]["rows"][0]["forward ms"] > 0
  assert {"processor", "cores", "versions", "commit"} <= set(written["machine"])
  assert "small/text" in capsys.readouterr().out


def test_the_machine_is_described():
  facts = machine.describe()
  assert facts["versions"]["jax"]
  assert facts["cores"] >= 1
