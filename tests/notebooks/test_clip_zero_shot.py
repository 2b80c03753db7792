import json

import pytest


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_notebook_runs_on_a_checkpoint(execute, smoke_workdir, monkeypatch):
  monkeypatch.setenv("WORKDIR", str(smoke_workdir))
  printed, pictures = execute("notebooks/clip_zero_shot.ipynb")
  assert "are right; chance" in printed
  assert "highest on the diagonal" in printed
  assert len(pictures) >= 6


def test_notebook_is_committed_without_outputs(root):
  book = json.loads((root / "notebooks/clip_zero_shot.ipynb").read_text())
  assert all(not cell.get("outputs") for cell in book["cells"])
