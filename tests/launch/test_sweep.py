"""The program: commands printed, and errors."""

import subprocess
import sys

import pytest

TABLE = """
def sweep(small):
  rows = [dict(name=str(t), overrides={"schedule.lr": t}, paper=dict(loss=t)) for t in (0.1, 0.2)]
  config = "configs/contrastive/clip_quickstart.py:smoke"
  columns = dict(loss=dict(metric="clip/train/loss", percent=False))
  return dict(rate=dict(title="Rates", source="None.", config=config, columns=columns, rows=rows))
"""


@pytest.fixture
def call(root, tmp_path):
  (tmp_path / "table.py").write_text(TABLE)

  def run(name, *flags):
    command = [sys.executable, "launch/sweep.py", f"--sweep={tmp_path}/table.py:{name}", "--workdir", *flags]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

  return run


@pytest.mark.slow
def test_prints_commands(call):
  out = call("rate", "runs/rate", "--print", "--config.steps=5")
  assert out.returncode == 0, out.stderr
  train = "python launch/train.py --config=configs/contrastive/clip_quickstart.py:smoke --workdir=runs/rate"
  assert out.stdout.splitlines() == [
    f"{train}/{rate} --config.steps=5 --config.schedule.lr={rate}" for rate in (0.1, 0.2)
  ]


@pytest.mark.slow
def test_the_papers_numbers_alone_need_no_workdir(root, tmp_path, call):
  program = [sys.executable, "launch/sweep.py", f"--sweep={tmp_path}/table.py"]
  run = lambda *flags: subprocess.run([*program, *flags], cwd=root, capture_output=True, text=True, check=False)
  out = run("--paper")
  assert out.returncode == 0, out.stderr
  assert "| 0.2 | 0.2 |" in out.stdout.splitlines()
  program[-1] += ":rate"
  assert "## Rates" in run("--paper").stdout.splitlines()
  assert (
    "--paper takes --sweep alone, not --small --config.steps=5" in run("--paper", "--small", "--config.steps=5").stderr
  )
  assert "the following arguments are required: --workdir" in run().stderr


@pytest.mark.slow
def test_table_of_nothing_and_an_error(call, tmp_path):
  out = call("rate", str(tmp_path / "runs"), "--table")
  assert out.returncode == 0, out.stderr
  assert "| 0.2 | 0.20 | – |" in out.stdout.splitlines()
  assert (tmp_path / "runs/table.json").exists()
  out = call("rat", str(tmp_path / "runs"), "--table")
  assert out.returncode == 1
  assert "did you mean 'rate'?" in out.stderr
