"""kill -9 while a save is being written."""

import os
import subprocess
import sys
import time

import jax.numpy as jnp
import pytest

from vljax.checkpoint import Manager

PROGRAM = """
import sys
import jax.numpy as jnp
from vljax.checkpoint import Manager
w = jnp.arange(2**24, dtype=jnp.float32)
manager = Manager(sys.argv[1], keep=5)
for step in range((manager.latest_step() or 0) + 1, 1000):
  manager.save(step, {"w": w + step}, {"train": step})
  print("saving", step, flush=True)
"""


@pytest.mark.parametrize(
  "delays",
  [
    pytest.param((0.0, 0.1, 0.3), marks=pytest.mark.slow, id="3"),
    pytest.param(tuple(i / 40 for i in range(20)), marks=pytest.mark.long, id="20"),
  ],
)
def test_the_step_before_stays(tmp_path, root, delays):
  target = {"w": jnp.zeros(2**24)}
  done = 0
  for delay in delays:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(
      [sys.executable, "-c", PROGRAM, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
      while True:
        saving = int(process.stdout.readline().split()[1])
        if saving >= done + 3:
          break
      time.sleep(delay)
    finally:
      process.kill()
      process.wait(timeout=20)
      process.stdout.close()
    with Manager(tmp_path, keep=5) as manager:
      restored, data, done = manager.restore(target)
    assert done >= saving - 1, (done, saving)
    assert data == {"train": done}
    assert jnp.array_equal(restored["w"], jnp.arange(2**24, dtype=jnp.float32) + done)
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))
    assert not list((tmp_path / "checkpoints").glob("*.damaged"))
