"""The program: help, a run, a second run, and an error."""

import subprocess
import sys

import pytest

pytest.importorskip("tensorflow_datasets")


@pytest.fixture
def call(root):
  def run(*flags):
    command = [sys.executable, str(root / "launch/prepare.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)

  return run


def test_help(call):
  out = call("--help")
  assert out.returncode == 0
  assert "--from SOURCE" in out.stdout
  assert "array_record:DATA/my_pairs" in out.stdout


@pytest.mark.slow
def test_runs_twice(call, tmp_path):
  flags = ("--from", "synthetic:pairs?n=20&size=8", "--to", str(tmp_path / "shapes"), "--shards", "2")
  first, second = call(*flags), call(*flags)
  assert first.returncode == 0, first.stderr
  folder = tmp_path / "shapes/1.0.0"
  assert f"{folder}: written, 20 examples in 2 shards, 0 rows left out" in first.stdout
  assert f"array_record:{folder}" in first.stdout
  assert f"tfds:shapes?data_dir={tmp_path}" in first.stdout
  assert f"{folder}: was complete already, 20 examples in 2 shards, 0 rows left out" in second.stdout


def test_error(call, tmp_path):
  out = call("--from", "synthetic:pair", "--to", str(tmp_path / "shapes"))
  assert out.returncode == 1
  assert "unknown synthetic set 'pair'; did you mean 'pairs'?" in out.stderr
