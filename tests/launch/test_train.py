"""The program itself: what it prints where, and how it ends."""

import pytest

pytestmark = pytest.mark.slow
CONFIG = "--config=configs/contrastive/clip_quickstart.py:smoke"


def test_two_steps_and_what_to_do_next(start_training, tmp_path):
  process = start_training(CONFIG, f"--workdir={tmp_path}/run", "--config.seed=3")
  text, shown = process.communicate(timeout=200)
  assert process.returncode == 0, shown
  assert "step 2/2  loss" in shown
  assert "start       fresh" in shown
  assert text.strip().startswith("Next:")
  assert (tmp_path / "run/checkpoints/2").is_dir()


def test_help_and_missing_flags(start_training):
  process = start_training("--help")
  text, _ = process.communicate(timeout=60)
  assert process.returncode == 0
  assert "python launch/train.py --config=configs/contrastive/clip_quickstart.py --workdir=" in text
  process = start_training(CONFIG)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 2
  assert "the following arguments are required: --workdir" in errors
