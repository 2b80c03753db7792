"""What a disk or a crash can do to the newest step."""

import json
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from vljax.checkpoint import Manager


def largest(folder):
  return max((path for path in (folder / "state").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_array(folder):
  """One bit of one stored number: what no file format notices that does not look."""
  file = largest(folder)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(bytes(content))


def truncate(folder):
  file = largest(folder)
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lose_data(folder):
  largest(folder).unlink()


def lose_metadata(folder):
  (folder / "state" / "_METADATA").unlink()


def flip_structure(folder):
  file = folder / "state" / "manifest.ocdbt"
  content = bytearray(file.read_bytes())
  content[-5] ^= 4
  file.write_bytes(bytes(content))


def lose_index(folder):
  (folder / "index" / "metadata").unlink()


def edit_index(folder):
  file = folder / "index" / "metadata"
  content = json.loads(file.read_text())
  content["body"]["leaves"]["params/w"]["shape"] = [4, 5]
  file.write_text(json.dumps(content))


def half_written(folder):
  for path in folder.iterdir():
    if path.name != "_CHECKPOINT_METADATA":
      shutil.rmtree(path) if path.is_dir() else path.unlink()


FAULTS = {
  flip_array: "the checksum of params/w is wrong",
  truncate: r"2/state/ocdbt.process_0/d/\w+ has \d+ bytes; \d+ were written",
  lose_data: r"2/state/ocdbt.process_0/d/\w+ is missing",
  lose_metadata: "2/state/_METADATA is missing",
  flip_structure: "2/state/manifest.ocdbt is damaged",
  lose_index: "2/index/metadata cannot be read",
  edit_index: "2/index/metadata is damaged",
  half_written: "2/index/metadata cannot be read",
}


@pytest.fixture
def workdir(tmp_path):
  """A run with steps 1 and 2; numbers that do not compress, so that the largest file holds params/w."""
  random = np.random.default_rng(0)
  with Manager(tmp_path) as manager:
    for step in (1, 2):
      w = jnp.asarray(random.normal(size=(256, 256)), jnp.float32)
      manager.save(step, {"params": {"w": w, "b": jnp.full(3, step)}}, {"train": step})
  return tmp_path


TARGET = {"params": {"w": jnp.ones((256, 256)), "b": jnp.ones(3, jnp.int32)}}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_step_before_is_used(workdir, caplog, fault):
  fault(workdir / "checkpoints" / "2")
  with Manager(workdir) as manager:
    caplog.clear()
    restored, data, step = manager.restore(TARGET)
    assert (step, data) == (1, {"train": 1})
    assert int(restored["params"]["b"][0]) == 1
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and "damaged:" in r.getMessage()]
    assert len(warnings) == 1
    assert "using step 1, since later checkpoints are damaged: step 2: " in warnings[0]
    assert re.search(FAULTS[fault], warnings[0])
    assert (workdir / "checkpoints" / "2.damaged").exists()
    assert manager.save(2, restored, {"train": 2})
  with Manager(workdir) as manager:
    assert manager.restore(TARGET)[2] == 2


def test_none_is_good(workdir):
  lose_index(workdir / "checkpoints" / "1")
  flip_array(workdir / "checkpoints" / "2")
  with (
    Manager(workdir) as manager,
    pytest.raises(ValueError, match=r"no checkpoint in .* can be used: step 2: .*params/w is wrong; step 1: .*/index"),
  ):
    manager.restore(TARGET)
  assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["1", "2"]


def test_what_a_crash_leaves_is_cleaned_up(workdir):
  (workdir / "checkpoints" / "3.orbax-checkpoint-tmp-17").mkdir()
  with Manager(workdir) as manager:
    assert manager.restore(TARGET)[2] == 2
    assert manager.save(3, TARGET)
  assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["1", "2", "3"]
