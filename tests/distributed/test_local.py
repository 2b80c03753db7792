"""The launcher of several processes on one machine."""

import signal
import subprocess
import sys
import time

import pytest


@pytest.fixture
def launch(root, tmp_path):
  def start(body, *flags):
    (tmp_path / "program.py").write_text(body)
    command = [sys.executable, str(root / "launch/local.py"), *flags, "--", str(tmp_path / "program.py"), "--x"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

  return start


def test_environment_and_output(launch):
  program = """
import os, sys
print(os.environ["JAX_PROCESS_ID"], os.environ["JAX_NUM_PROCESSES"], os.environ["XLA_FLAGS"].split()[-1], sys.argv[1])
"""
  process = launch(program, "--processes=3", "--devices=2")
  text, _ = process.communicate(timeout=60)
  assert process.returncode == 0
  expected = [f"[{i}] {i} 3 --xla_force_host_platform_device_count=2 --x" for i in range(3)]
  assert sorted(text.splitlines()) == expected


def test_one_failure_ends_all(launch):
  process = launch("""
import os, sys, time
if os.environ["JAX_PROCESS_ID"] == "1":
  sys.exit(7)
time.sleep(60)
""")
  started = time.monotonic()
  process.communicate(timeout=50)
  assert process.returncode == 7
  assert time.monotonic() - started < 30


def test_sigterm_is_passed_on(launch):
  process = launch("""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(60)
""")
  assert {process.stdout.readline(), process.stdout.readline()} == {"[0] ready\n", "[1] ready\n"}
  process.send_signal(signal.SIGTERM)
  text, _ = process.communicate(timeout=50)
  assert process.returncode == 0
  assert sorted(text.splitlines()) == ["[0] saved", "[1] saved"]
