import re

import jax
import pytest
from jax.sharding import AxisType

from vljax import parallel
from vljax.parallel import mesh as mesh_lib


@pytest.mark.parametrize(
  ("config", "shape"),
  [
    ({}, (8, 1, 1)),
    ({"fsdp": 2}, (4, 2, 1)),
    ({"data": 1, "fsdp": -1, "tensor": 2}, (1, 4, 2)),
    ({"data": 2, "fsdp": 2, "tensor": 2}, (2, 2, 2)),
  ],
)
def test_shape(config, shape):
  mesh = parallel.make(parallel.Mesh(**config))
  assert tuple(mesh.shape.values()) == shape
  assert mesh.axis_names == ("data", "fsdp", "tensor")
  assert set(mesh.axis_types) == {AxisType.Auto}


def test_some_devices():
  assert parallel.make(devices=jax.devices()[:1]).shape["data"] == 1


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (
      {"data": 3},
      "mesh data=3 fsdp=1 tensor=1 needs 3 devices; found 8; legal: data * fsdp * tensor = 8, "
      "or data=-1 with fsdp * tensor one of 1, 2, 4, 8",
    ),
    (
      {"fsdp": 3},
      "mesh data=-1 fsdp=3 tensor=1 needs a multiple of 3 devices; found 8; "
      "legal products of the fixed axes: 1, 2, 4, 8",
    ),
    ({"fsdp": -1}, "mesh data=-1 fsdp=-1 tensor=1: data and fsdp are -1; legal: at most one of data, fsdp, tensor"),
    (
      {"tensor": 0},
      "mesh data=-1 fsdp=1 tensor=0: config.mesh.tensor = 0; legal: a positive number, or -1 for what is left",
    ),
  ],
)
def test_errors(config, message):
  with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
    parallel.make(parallel.Mesh(**config))


def test_batch():
  mesh = parallel.make(parallel.Mesh(fsdp=2))
  parallel.check_batch("train", 16, mesh, micro=2)
  message = (
    "config.streams.train.batch = 20 does not divide over data * fsdp = 4 * 2 = 8 of the mesh; nearest legal: 16 or 24"
  )
  with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
    parallel.check_batch("train", 20, mesh)
  with pytest.raises(ValueError, match="batch = 8 in 4 micro-batches .* nearest legal: 32$"):
    parallel.check_batch("train", 8, mesh, micro=4)
  with pytest.raises(ValueError, match="nearest legal: 8$"):
    parallel.check_batch("train", 0, mesh)


def test_one_process(monkeypatch):
  for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", *mesh_lib._CLUSTERS):
    monkeypatch.delenv(name, raising=False)
  assert not parallel.initialize()
  monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
  assert not parallel.initialize()
  assert not parallel.initialize(processes=1)


def test_initialize_errors(monkeypatch):
  for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
    monkeypatch.delenv(name, raising=False)
  with pytest.raises(ValueError, match="found JAX_NUM_PROCESSES=2, but JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID is"):
    parallel.initialize(processes=2)
  with pytest.raises(ValueError, match="JAX_PROCESS_ID=2 is out of range; legal: 0 to 1"):
    parallel.initialize("localhost:1", 2, 2)
  monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
  with pytest.raises(ValueError, match="JAX_NUM_PROCESSES='two' is not a number"):
    parallel.initialize()


def test_several_processes_are_recognised(monkeypatch):
  called = []
  monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **kwargs: called.append((args, kwargs)))
  monkeypatch.setattr(jax, "process_count", lambda: 4)
  for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", *mesh_lib._CLUSTERS):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b,c,d")
  assert parallel.initialize()
  monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost")
  assert not parallel.initialize()
  assert parallel.initialize("localhost:1", 2, 1)
  assert called == [((), {}), (("localhost:1",), {"num_processes": 2, "process_id": 1})]


def test_tpu_hosts_are_recognised(monkeypatch, tmp_path):
  (tmp_path / "accel0").touch()
  monkeypatch.setattr(mesh_lib.importlib.util, "find_spec", lambda name: name)
  monkeypatch.setattr(mesh_lib.epath, "Path", lambda name: tmp_path if name == "/dev" else None)
  assert mesh_lib._cluster({})
  assert not mesh_lib._cluster({"JAX_PLATFORMS": "cpu"})
  assert not mesh_lib._cluster({"TPU_SKIP_MDS_QUERY": "1"})
  assert not mesh_lib._cluster({"TPU_WORKER_HOSTNAMES": "localhost"})
  (tmp_path / "accel0").unlink()
  assert not mesh_lib._cluster({})
