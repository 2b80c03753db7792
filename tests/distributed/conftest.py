"""Several real processes that find each other through jax.distributed."""

import importlib.util
import subprocess
import sys
import textwrap
import time

import pytest

PRELUDE = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from vljax import parallel
assert parallel.initialize()
process, workdir = jax.process_index(), sys.argv[1]
"""


@pytest.fixture(scope="session")
def local(root):
  """The module launch/local.py."""
  spec = importlib.util.spec_from_file_location("launch_local", root / "launch/local.py")
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def spawn(local, tmp_path, root):
  """A function (body of a program, processes, devices of each) -> running processes; killed by id in the end."""
  running = []

  def start(body, processes=2, devices=2):
    script = tmp_path / f"program_{len(running)}.py"
    script.write_text(PRELUDE + textwrap.dedent(body) + "\njax.distributed.shutdown()\n")
    port = local.free_port()
    for i in range(processes):
      output = (tmp_path / f"output_{len(running)}").open("w+")
      command = [sys.executable, str(script), str(tmp_path / "run")]
      environment = {**local.environment(i, processes, devices, port), "PYTHONPATH": str(root)}
      running.append(
        (subprocess.Popen(command, env=environment, cwd=root, stdout=output, stderr=subprocess.STDOUT), output)
      )
    return running[-processes:]

  yield start
  for process, output in running:
    if process.poll() is None:
      process.kill()
      process.wait()
    output.close()


@pytest.fixture
def outputs():
  """A function that waits for processes and returns what each printed; fails if one does not end well in time."""

  def collect(started, seconds=100):
    deadline = time.monotonic() + seconds
    while any(process.poll() is None for process, _ in started) and time.monotonic() < deadline:
      if any(process.poll() for process, _ in started):
        deadline = min(deadline, time.monotonic() + 5)
      time.sleep(0.1)
    texts = []
    for _, output in started:
      output.seek(0)
      texts.append(output.read())
    codes = [process.poll() for process, _ in started]
    assert codes == [0] * len(codes), "\n".join(
      f"{code}: {text[-3000:]}" for code, text in zip(codes, texts, strict=True)
    )
    return texts

  return collect
