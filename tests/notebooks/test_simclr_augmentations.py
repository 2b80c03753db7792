import json

import pytest

BOOK = "notebooks/simclr_augmentations.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_notebook_looks_trains_and_probes(root, execute, tmp_path, monkeypatch):
  for name, value in {
    "SOURCE": "synthetic:pairs?n=160&size=20&holdout=40",
    "STEPS": "3",
    "SIZE": "16",
    "BATCH": "32",
    "WORKDIR": str(tmp_path / "run"),
    "XLA_FLAGS": "",
    "JAX_COMPILATION_CACHE_DIR": str(root / ".cache/jax"),
  }.items():
    monkeypatch.setenv(name, value)
  printed, pictures = execute(BOOK)
  assert "120 pictures to learn from, 40 held out" in printed
  for name in ("raw pixels", "before training", "after training", "chance"):
    assert name in printed
  assert len(pictures) == 8
  assert (tmp_path / "run/metrics.jsonl").exists()


def test_notebook_is_committed_without_outputs(root):
  book = json.loads((root / BOOK).read_text())
  assert all(not cell.get("outputs") for cell in book["cells"])
