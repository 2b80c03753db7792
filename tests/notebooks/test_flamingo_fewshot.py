import json
import os

import pytest

from vljax import config, experiment

BOOK = "notebooks/flamingo_fewshot.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_notebook_asks_looks_and_talks(root, execute, tmp_path, monkeypatch):
  spec = f"{root}/configs/flamingo/flamingo_smollm2.py:smoke"
  assert experiment.train(config.load(spec, ["lm.length=512"]), tmp_path / "run")
  for name, value in {
    "SOURCE": "synthetic:pairs?n=24&size=16&holdout=10&split=val",
    "QUERIES": "4",
    "WORKDIR": os.path.relpath(tmp_path / "run", root),
    "XLA_FLAGS": "",
    "JAX_COMPILATION_CACHE_DIR": str(root / ".cache/jax"),
  }.items():
    monkeypatch.setenv(name, value)
  printed, pictures = execute(BOOK)
  for text in ("10 captioned pictures", "of 6 pictures make their own", "2 shots: cider", "User: Where is it?"):
    assert text in printed
  assert printed.count("Flamingo:") == 2
  assert len(pictures) == 3


def test_notebook_is_committed_without_outputs(root):
  book = json.loads((root / BOOK).read_text())
  assert all(not cell.get("outputs") for cell in book["cells"])
