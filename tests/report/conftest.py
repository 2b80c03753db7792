"""A small run: pictures and names that lookup tables embed, and its metrics file."""

import numpy as np
import pytest

from vljax import report
from vljax.train import writers

NASTY = "<script>alert('x')</script> & \"$x_1$\""


def world(n=9, d=8):
  """Examples and encoders; every name lies at its picture, unknown text at the last one."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (n, 8, 8, 3), np.uint8)
  z = rng.normal(size=(n, d))
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  names = [f"name {i}" for i in range(n)]
  names[0], names[1] = NASTY, "とても長い名前" * 9
  by_image = {image.tobytes(): row for image, row in zip(images, z, strict=True)}
  by_name = dict(zip(names, z, strict=True))
  encoders = {
    "encode_image": lambda batch: np.stack([by_image[image.tobytes()] for image in batch]),
    "encode_text": lambda batch: np.stack([by_name.get(text, z[-1]) for text in batch]),
  }
  return [{"image": image, "captions": [name]} for image, name in zip(images, names, strict=True)], encoders


def write_metrics(directory):
  with writers.build(directory, ["jsonl"], process=0) as writer:
    for step in range(1, 31):
      writer.write(step, {"clip/train/loss": float("nan") if step == 7 else 5 / step, "time/elapsed": 2.0 * step})
      if step % 10 == 0:
        scores = {"image_to_text/R@10": step / 60, "image_to_text/R@10/chance": 0.1, "image_to_text/median_rank": 4}
        writer.write(step, {f"retrieval/{name}": value for name, value in scores.items()})


@pytest.fixture(scope="session")
def nasty():
  """Text that a page must escape."""
  return NASTY


@pytest.fixture(scope="session")
def examples():
  return world()[0]


@pytest.fixture(scope="session")
def encoders():
  return world()[1]


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
  """The directory of a run that has metrics."""
  directory = tmp_path_factory.mktemp("run")
  write_metrics(directory)
  return directory


@pytest.fixture(scope="session")
def made(workdir, examples, encoders, nasty):
  """A report with all its parts."""
  queries = ["what is typed", nasty]
  command = "python launch/train.py"
  return report.build("A run", command, examples=examples, queries=queries, metrics=workdir, credit=nasty, **encoders)
