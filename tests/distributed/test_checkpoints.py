"""Two processes save; two, on another mesh, and one restore."""

import re
import signal
import time

import jax
import numpy as np
import pytest

from vljax import parallel
from vljax.checkpoint import Manager

pytestmark = pytest.mark.slow

STATE = """
from vljax.checkpoint import Manager, load_params
def state(mesh, spec, value):
  full = np.arange(8 * 16, dtype=np.float32).reshape(8, 16) + value
  where = NamedSharding(mesh, spec)
  w = jax.make_array_from_callback(full.shape, where, lambda index: full[index])
  return {"params": {"w": w, "host": np.arange(3.0)}, "rng": parallel.replicate(np.uint32(value), mesh), "n": value}
first, second = parallel.make(parallel.Mesh(data=2, fsdp=2)), parallel.make(parallel.Mesh(data=1, tensor=4))
"""

SAVE = (
  STATE
  + """
with Manager(workdir, keep=5) as manager:
  manager.save_frozen({"params": {"host": np.arange(3.0)}})
  for step in (1, 2, 3):
    assert manager.save(step, state(first, P("data", "fsdp"), step), {"train": step * 7})
"""
)

RESTORE = (
  STATE
  + """
with Manager(workdir, keep=5) as manager:
  target = state(second, P(None, "tensor"), 0)
  restored, data, step = manager.restore(target)
  assert restored["params"]["w"].sharding == target["params"]["w"].sharding
  assert restored["params"]["w"].addressable_shards[0].data.shape == (8, 4)
  whole = parallel.to_host(restored["params"]["w"])
  print("restored", step, data["train"], restored["n"], float(whole[0, 0]), float(whole.sum()))
  assert manager.save(step + 10, restored, data)
  manager.wait()
  params, _ = load_params(workdir)
  print("loaded", float(params["w"].sum()))
"""
)


def test_save_and_restore_elsewhere(tmp_path, spawn, outputs):
  outputs(spawn(SAVE))
  total = float((np.arange(128.0) + 3).sum())
  for text in outputs(spawn(RESTORE)):
    assert f"restored 3 21 3 3.0 {total}" in text
    assert f"loaded {total}" in text
  mesh = parallel.make(devices=jax.devices()[:4])
  w = parallel.to_global({"w": np.zeros((8, 16), np.float32)}, mesh)["w"]
  target = {"params": {"w": w, "host": np.zeros(3)}, "rng": np.uint32(0), "n": 0}
  with Manager(tmp_path / "run") as manager:
    restored, data, step = manager.restore(target)
  assert (step, data, restored["n"]) == (13, {"train": 21}, 3)
  np.testing.assert_array_equal(restored["params"]["w"], np.arange(128.0).reshape(8, 16) + 3)


def test_damage_seen_by_all(tmp_path, spawn, outputs):
  outputs(spawn(SAVE))
  flip = max(
    (p for p in (tmp_path / "run/checkpoints/3/state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
  )
  content = bytearray(flip.read_bytes())
  content[len(content) // 2] ^= 1
  flip.write_bytes(bytes(content))
  (tmp_path / "run/checkpoints/2/state/ocdbt.process_1/manifest.ocdbt").unlink()
  for text in outputs(spawn(RESTORE)):
    assert "restored 1 7 1 1.0" in text
    assert re.search(
      r"using step 1, since later checkpoints are damaged: step 3: .*; step 2: .*ocdbt is missing", text
    )
  names = sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir())
  assert names == ["1", "11", "2.damaged", "3.damaged", "frozen"]


def test_preemption_of_one_ends_both_at_one_step(tmp_path, spawn, outputs):
  started = spawn(
    STATE
    + """
    import time
    from vljax.checkpoint import preemption
    with Manager(workdir) as manager, preemption.watch() as preempted:
      for step in range(1, 400):
        value = state(first, P("data", "fsdp"), step)
        if step == 3:
          print("running", flush=True)
        if preempted(step):
          manager.save(step, value, {"train": step}, force=True)
          print("saved", step)
          break
        time.sleep(0.1)
    """.replace("\n    ", "\n")
  )
  output = tmp_path / "output_1"
  deadline = time.monotonic() + 60
  while "running" not in output.read_text() and time.monotonic() < deadline:
    time.sleep(0.1)
  started[1][0].send_signal(signal.SIGTERM)
  steps = {re.search(r"saved (\d+)", text)[1] for text in outputs(started)}
  assert len(steps) == 1
  assert (tmp_path / "run/checkpoints" / steps.pop()).exists()
