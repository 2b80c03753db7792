"""Data that are broken in ways that real data are."""

import io

import numpy as np
import pytest
from PIL import Image


def jpeg(seed, size=24):
  file = io.BytesIO()
  Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)).save(file, "JPEG")
  return file.getvalue()


@pytest.fixture
def pictures(tmp_path):
  """A folder of 40 pictures with a line of text beside each."""
  folder = tmp_path / "pictures"
  folder.mkdir()
  for i in range(40):
    (folder / f"{i:02d}.jpg").write_bytes(jpeg(i))
    (folder / f"{i:02d}.txt").write_text(f"the picture with the number {i}")
  return folder


@pytest.fixture
def train(smoke, tmp_path):
  """A function of overrides that trains the `:smoke` config in a folder of its own, or in `workdir`."""
  from vljax import experiment

  def run(*overrides, workdir=tmp_path / "run"):
    return experiment.train(smoke(*overrides), workdir)

  return run
