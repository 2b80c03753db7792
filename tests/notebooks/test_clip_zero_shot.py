import json

import nbclient
import nbformat
import pytest


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_notebook_runs_on_a_checkpoint(root, smoke_workdir, monkeypatch):
  monkeypatch.setenv("WORKDIR", str(smoke_workdir))
  book = nbformat.read(root / "notebooks/clip_zero_shot.ipynb", as_version=4)
  nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(root / "notebooks")}}).execute()
  printed = "".join(o.get("text", "") for cell in book.cells for o in cell.get("outputs", []))
  pictures = [o for cell in book.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
  assert "are right; chance" in printed
  assert "highest on the diagonal" in printed
  assert len(pictures) >= 6


def test_notebook_is_committed_without_outputs(root):
  book = json.loads((root / "notebooks/clip_zero_shot.ipynb").read_text())
  assert all(not cell.get("outputs") for cell in book["cells"])
