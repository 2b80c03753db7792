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
manager = Manager(sys.argv[1], keep=100)
for step in range(1, 100):
  manager.save(step, {"w": w + step}, {"train": step})
  print("saving", step, flush=True)
"""


@pytest.mark.slow
def test_the_step_before_stays(tmp_path, root):
  target = {"w": jnp.zeros(2**24)}
  done = 0
  for delay in (0.0, 0.1, 0.3):
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
    with Manager(tmp_path, keep=100) as manager:
      restored, data, done = manager.restore(target)
    assert done >= saving - 1
    assert data == {"train": done}
    assert jnp.array_equal(restored["w"], jnp.arange(2**24, dtype=jnp.float32) + done)
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))
    assert not list((tmp_path / "checkpoints").glob("*.damaged"))
