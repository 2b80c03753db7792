"""What lies in the files, also after a kill, and where packages are missing."""

import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from vljax.train import writers


def test_jsonl_stays_valid_where_numbers_are_not(tmp_path):
  with writers.build(tmp_path, ["jsonl"], process=0) as writer:
    writer.write(1, {"loss": np.float32(2.5), "a": float("nan"), "b": float("-inf")})
  strict = lambda name: pytest.fail(f"{name} is no JSON")
  row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=strict)
  assert row == {"step": 1, "loss": 2.5, "a": None, "b": None, "nonfinite": ["a", "b"]}


def test_every_line_is_on_disk_at_once(tmp_path):
  writer = writers.Jsonl(tmp_path)
  writer.write(1, {"loss": 1})
  assert writers.read(tmp_path) == [{"step": 1, "loss": 1.0}]
  writer.close()


def test_a_resumed_run_writes_no_step_twice(tmp_path):
  with writers.build(tmp_path, ["jsonl"], process=0) as writer:
    for step in range(1, 6):
      writer.write(step, {"loss": step})
    writer.write(5, {"recall": 0.5})
  file = tmp_path / "metrics.jsonl"
  file.write_text(file.read_text() + '{"step": 6, "lo')
  with writers.build(tmp_path, ["jsonl"], start=3, process=0) as writer:
    writer.write(4, {"loss": 40})
  assert writers.read(tmp_path) == [{"step": s, "loss": x} for s, x in ((1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0))]
  assert len(file.read_text().splitlines()) == 4


def test_a_new_run_in_an_old_directory_begins_anew(tmp_path):
  for _ in range(2):
    with writers.build(tmp_path, ["jsonl"], process=0) as writer:
      writer.write(1, {"loss": 1})
  assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_read_joins_the_rows_of_a_step_and_skips_what_a_kill_cut(tmp_path):
  lines = ['{"step": 2, "loss": 1.0}', '{"step": 1, "loss": 2.0}', '{"step": 2, "recall": 0.5}', "[1]", '{"st']
  (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
  expected = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "recall": 0.5}]
  assert writers.read(tmp_path / "metrics.jsonl") == expected


def test_reading_nothing_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"there is no metrics file .*metrics\.jsonl"):
    writers.read(tmp_path)


def test_other_processes_write_nothing(tmp_path):
  with writers.build(tmp_path, ["jsonl", "png"], process=1) as writer:
    writer.write(1, {"loss": 1})
    writer.pictures(1, "samples", np.zeros((1, 2, 2, 3), np.uint8))
  assert not list(tmp_path.iterdir())


def test_pictures_lie_in_a_grid(tmp_path):
  pictures = np.stack([np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)])
  with writers.build(tmp_path, ["jsonl", "png"], process=0) as writer:
    writer.write(7, {})
    writer.pictures(7, "samples", pictures)
  with Image.open(tmp_path / "samples/samples/00000007.png") as image:
    found = np.asarray(image)
  assert found.shape == (10, 14, 3)
  assert (found[0, 0, 0], found[0, 13, 0], found[9, 0, 0], found[9, 13, 0]) == (10, 20, 30, 255)
  assert writers.grid(pictures[..., :1], columns=3).shape == (4, 22, 3)


def test_pictures_of_another_type_are_named():
  with pytest.raises(ValueError, match=r"uint8 \[n h w 1 or 3\]; found float64 \(1, 2, 2, 3\)"):
    writers.grid(np.zeros((1, 2, 2, 3)))


@pytest.mark.slow
def test_tensorboard_files_hold_the_scalars(tmp_path):
  pytest.importorskip("tensorboardX")
  with writers.build(tmp_path, ["tensorboard"], start=2, process=0) as writer:
    writer.write(3, {"loss": 2.5})
    writer.pictures(3, "samples", np.zeros((1, 2, 2, 3), np.uint8))
  (events,) = (tmp_path / "tensorboard").iterdir()
  assert b"loss" in events.read_bytes()
  assert b"samples" in events.read_bytes()


def test_wandb_goes_on_under_the_same_id(tmp_path, monkeypatch):
  seen = []
  run = types.SimpleNamespace(
    log=lambda scalars, step: seen.append((step, scalars)), finish=lambda: seen.append("end")
  )
  ids = []
  keys = ("id", "resume", "config")
  fake = types.SimpleNamespace(init=lambda **options: ids.append(tuple(options[key] for key in keys)) or run)
  monkeypatch.setitem(sys.modules, "wandb", fake)
  for _ in range(2):
    with writers.build(tmp_path, ["wandb"], process=0, settings={"steps": 3}) as writer:
      writer.write(1, {"loss": 2.0})
  assert seen == [(1, {"loss": 2.0}), "end"] * 2
  assert ids[0] == ids[1] == (ids[0][0], "allow", {"steps": 3})


@pytest.mark.parametrize(("kind", "package"), [("wandb", "wandb"), ("tensorboard", "tensorboardX")])
def test_a_missing_package_is_named_with_its_remedy(tmp_path, monkeypatch, kind, package):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(ImportError, match=f"needs the package {package}: pip install"):
    writers.build(tmp_path, [kind], process=0)


def test_a_misspelt_writer_is_answered_with_the_nearest(tmp_path):
  with pytest.raises(ValueError, match="tensorboard"):
    writers.build(tmp_path, ["tensorbord"], process=1)
