import re
import shutil

import numpy as np
import pytest
from PIL import Image

from vljax import config, experiment, recipes
from vljax.checkpoint import Metadata, metadata
from vljax.recipes import clip


@pytest.fixture
def pictures(tmp_path):
  """A folder of eight noisy pictures: one is cut off, one has no caption beside it."""
  folder = tmp_path / "pictures"
  folder.mkdir()
  for i in range(8):
    image = Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8))
    image.save(folder / f"{i}.jpg")
    if i != 5:
      (folder / f"{i}.txt").write_text(f"picture {i} of eight")
  cut = folder / "3.jpg"
  cut.write_bytes(cut.read_bytes()[:-100])
  return folder


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


@pytest.mark.slow
def test_the_report_is_of_the_run(smoke_workdir, tmp_path):
  pytest.importorskip("matplotlib")
  workdir = shutil.copytree(smoke_workdir, tmp_path / "run")
  wanted = clip.Report(source="synthetic:pairs?n=12&size=16", queries=("a red circle",), title="Shapes & colors")
  paths = experiment.write_report(wanted, workdir)
  assert {p.name for p in paths} == {"report.png", "report.html"}
  text = next(p for p in paths if p.suffix == ".html").read_text()
  assert "Shapes &amp; colors" in text
  assert "a red circle" in text


@pytest.mark.slow
def test_the_report_leaves_out_what_cannot_be_read_and_names_it(smoke_workdir, pictures, tmp_path, caplog):
  workdir = shutil.copytree(smoke_workdir, tmp_path / "run")
  paths = experiment.write_report(clip.Report(source=f"folder:{pictures}"), workdir)
  text = next(p for p in paths if p.suffix == ".html").read_text()
  assert "6 of 6 held-out pictures" in text
  assert re.search(r"number 3 is left out of .*: the JPEG image of 32 x 32 cannot be read", caplog.text)
  assert "'5.jpg' has no caption" in caplog.text


@pytest.mark.slow
def test_a_finished_run_without_a_report_is_finished(smoke, smoke_workdir, tmp_path, caplog):
  workdir = shutil.copytree(smoke_workdir, tmp_path / "run")
  raw = smoke("report.source=folder:nowhere")
  assert experiment.train(raw, workdir)
  assert re.search(r"there is no report of folder:nowhere: .*nowhere", caplog.text)
  assert not (workdir / "report.html").exists()


@pytest.mark.parametrize("file", ["clip_quickstart", "clip_folder", "clip_flickr8k", "lit_flickr8k:features=parts"])
def test_runs_on_pairs_end_with_a_page_of_their_held_out_pictures(root, file):
  name, _, argument = file.partition(":")
  parsed = recipes.parse(config.load(f"{root}/configs/contrastive/{name}.py:{argument}"))
  assert parsed.report.source == parsed.evals["retrieval"].source


@pytest.mark.parametrize("recipe", ["clip", "flamingo"])
def test_next_steps_name_commands_that_run(root, monkeypatch, tmp_path, recipe):
  monkeypatch.chdir(root)
  text = experiment.next_steps(tmp_path / "a workdir", recipe)
  for file in re.findall(r"(?:launch|configs|notebooks)/[\w/]+\.\w+", text):
    assert (root / file).exists(), file
  assert len(re.findall(r"^  \w.{20,}", text, re.MULTILINE)) == 3, "three commands"
  assert f"WORKDIR='{tmp_path}/a workdir'" in text
  assert f"WORKDIR={root}/runs/mine " in experiment.next_steps("runs/mine", recipe), "Jupyter goes to its notebook"
