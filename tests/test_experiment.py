import re

import pytest

from vljax import experiment
from vljax.checkpoint import Metadata, metadata


def test_a_config_becomes_a_workdir(smoke_workdir):
  names = {p.name for p in smoke_workdir.iterdir()}
  assert {"checkpoints", "metadata.json", "metrics.jsonl", "tokenizer"} <= names
  found = metadata.read(smoke_workdir)
  assert found.config["recipe"] == "clip"
  assert found.meaning["tokenizer"]["kind"] == "sentencepiece"


def test_what_changed_is_named_by_key(tmp_path):
  metadata.write(tmp_path, Metadata({"steps": 1, "schedule": {"lr": 0.1, "warmup": 2}}))
  now = Metadata({"steps": 2, "schedule": {"lr": 0.1}, "clip": 1.0})
  assert list(experiment.changes(tmp_path, now)) == [
    "changed     config.steps: 1 -> 2",
    "changed     config.schedule.warmup: 2 -> None",
    "changed     config.clip: None -> 1.0",
  ]
  assert list(experiment.changes(tmp_path / "new", now)) == []


def test_the_report_is_of_the_run(smoke_workdir, tmp_path):
  import shutil

  from vljax.recipes import clip

  pytest.importorskip("matplotlib")
  workdir = shutil.copytree(smoke_workdir, tmp_path / "run")
  wanted = clip.Report(source="synthetic:pairs?n=12&size=16", queries=("a red circle",), title="Shapes & colors")
  paths = experiment.write_report(wanted, workdir)
  assert {p.name for p in paths} == {"report.png", "report.html"}
  text = next(p for p in paths if p.suffix == ".html").read_text()
  assert "Shapes &amp; colors" in text
  assert "a red circle" in text


@pytest.mark.parametrize("recipe", ["clip", "flamingo"])
def test_next_steps_name_commands_that_run(root, monkeypatch, tmp_path, recipe):
  monkeypatch.chdir(root)
  text = experiment.next_steps(tmp_path / "a workdir", recipe)
  for file in re.findall(r"(?:launch|configs|notebooks)/[\w/]+\.\w+", text):
    assert (root / file).exists(), file
  assert len(re.findall(r"^  \w.{20,}", text, re.MULTILINE)) == 3, "three commands"
  assert f"WORKDIR='{tmp_path}/a workdir'" in text
