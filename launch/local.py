"""Run a program as several CPU processes on this machine, as on so many hosts.

  python launch/local.py --processes=2 --devices=2 -- launch/train.py --config=... --workdir=DIR

Each process gets `devices` simulated devices and finds the others through the environment that
`vljax.parallel.initialize` reads. Their output is shown line by line behind the process's number. SIGTERM and SIGINT
are passed on; when one process fails, the others are ended, and its exit status is ours.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from absl import app, flags

FLAGS = flags.FLAGS
PROCESSES = flags.DEFINE_integer("processes", 2, "how many processes", lower_bound=1)
DEVICES = flags.DEFINE_integer("devices", 1, "simulated CPU devices of each process", lower_bound=1)
GRACE = flags.DEFINE_float("grace", 30.0, "seconds between asking the other processes to end and killing them")


def environment(index: int, processes: int, devices: int, port: int) -> dict[str, str]:
  """The environment of one process."""
  kept = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in flag]
  return {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": " ".join([*kept, f"--xla_force_host_platform_device_count={devices}"]),
    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
    "JAX_NUM_PROCESSES": str(processes),
    "JAX_PROCESS_ID": str(index),
  }


def free_port() -> int:
  """A port that nobody listens on now."""
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def run(command: Sequence[str], processes: int, devices: int, grace: float = 30.0) -> int:
  """Run the command as so many processes; returns the exit status of the first that failed, or 0."""
  port = free_port()
  running = [
    subprocess.Popen(
      command,
      env=environment(i, processes, devices, port),
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for i in range(processes)
  ]
  readers = [threading.Thread(target=_show, args=(i, process.stdout)) for i, process in enumerate(running)]
  for reader in readers:
    reader.start()
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: _send(running, number))
  try:
    return _wait(running, grace)
  finally:
    _send(running, signal.SIGKILL)
    for reader in readers:
      reader.join()


def _wait(running: Sequence[subprocess.Popen], grace: float) -> int:
  status, deadline = 0, None
  while any(process.poll() is None for process in running):
    failed = next((code for process in running if (code := process.poll())), 0)
    if failed and deadline is None:
      status, deadline = failed, time.monotonic() + grace
      _send(running, signal.SIGTERM)
    if deadline is not None and time.monotonic() > deadline:
      _send(running, signal.SIGKILL)
    time.sleep(0.1)
  status = status or next((process.returncode for process in running if process.returncode), 0)
  return 128 - status if status < 0 else status


def _send(running: Sequence[subprocess.Popen], number: int) -> None:
  for process in running:
    if process.poll() is None:
      process.send_signal(number)


def _show(index: int, lines) -> None:
  for line in lines:
    print(f"[{index}] {line}", end="", flush=True)


def main(argv: Sequence[str]) -> None:
  command = list(argv[1:])
  if not command:
    raise app.UsageError("no program to run: python launch/local.py --processes=2 -- PROGRAM FLAGS")
  if command[0].endswith(".py"):
    command = [sys.executable, *command]
  sys.exit(run(command, PROCESSES.value, DEVICES.value, GRACE.value))


if __name__ == "__main__":
  app.run(main)
