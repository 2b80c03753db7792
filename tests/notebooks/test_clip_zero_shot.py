import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from vljax import config, experiment


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_notebook_runs_on_a_checkpoint(execute, smoke_workdir, monkeypatch):
  monkeypatch.setenv("WORKDIR", str(smoke_workdir))
  printed, pictures = execute("notebooks/clip_zero_shot.ipynb")
  assert "are right; chance" in printed
  assert "highest on the diagonal" in printed
  assert len(pictures) >= 6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_notebook_opens_a_run_on_picture_files_by_its_relative_path(root, execute, tmp_path, monkeypatch):
  monkeypatch.chdir(root)
  folder = tmp_path / "pictures"
  folder.mkdir()
  for i in range(60):
    pixels = np.random.default_rng(i).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"noise of kind {chr(97 + i % 26)}-{i}.jpg")
  source = f"folder:{os.path.relpath(folder)}?holdout=20&split="
  keys = ("tokenizer.learn", "streams.train.source", "evals.retrieval.source", "report.source")
  overrides = [f"{key}={source}{part}" for key, part in zip(keys, ("train", "train", "val", "val"), strict=True)]
  workdir = os.path.relpath(tmp_path / "run")
  raw = config.load("configs/contrastive/clip_folder.py:smoke", overrides)
  assert experiment.train(raw, workdir)

  monkeypatch.setenv("WORKDIR", workdir)
  printed, pictures = execute("notebooks/clip_zero_shot.ipynb")
  assert printed.startswith(workdir)
  assert "of these 12 are right; chance" in printed
  assert len(pictures) == 6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_notebook_trains_a_tiny_model_where_no_quickstart_has_a_step(root, execute, tmp_path, monkeypatch):
  for folder in ("configs", "notebooks"):
    shutil.copytree(root / folder, tmp_path / folder)
  (tmp_path / "runs/quickstart").mkdir(parents=True)
  (tmp_path / "runs/quickstart/metadata.json").write_text("{}")  # there before the first step
  monkeypatch.delenv("WORKDIR", raising=False)
  monkeypatch.setenv("XLA_FLAGS", "")
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(root / ".cache/jax"))
  printed, pictures = execute("notebooks/clip_zero_shot.ipynb", tmp_path)
  assert "runs/notebook\n" in printed
  assert "highest on the diagonal" in printed
  assert (tmp_path / "runs/notebook/checkpoints/150").exists()
  assert len(pictures) >= 6


def test_notebook_is_committed_without_outputs(root):
  book = json.loads((root / "notebooks/clip_zero_shot.ipynb").read_text())
  assert all(not cell.get("outputs") for cell in book["cells"])
