"""The device mesh: its config, how it is made, and how many processes make it up."""

import dataclasses
import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath
from jax.sharding import AxisType

AXES = ("data", "fsdp", "tensor")

_CLUSTERS = {
  "SLURM_STEP_NUM_TASKS": int,
  "OMPI_COMM_WORLD_SIZE": int,
  "TPU_PROCESS_ADDRESSES": lambda value: len(value.split(",")),
  "TPU_WORKER_HOSTNAMES": lambda value: len(value.split(",")),
  "MEGASCALE_NUM_SLICES": int,
}
"""What a cluster sets in the environment of each of its processes, and how many processes that means."""


@dataclasses.dataclass(frozen=True)
class Mesh:
  """How many ways each mesh axis goes; at most one is -1, which takes the devices that the others leave.

  Attributes:
    data: copies of the parameters; the batch is split over them.
    fsdp: ways that parameters and optimiser state are split; the batch is split over them, too.
    tensor: ways that single matrices (heads, hidden units, vocabulary) are split.
  """

  data: int = -1
  fsdp: int = 1
  tensor: int = 1

  def __post_init__(self):
    for axis in AXES:
      value = getattr(self, axis)
      if value != -1 and value < 1:
        raise ValueError(f"{self}: config.mesh.{axis} = {value}; legal: a positive number, or -1 for what is left")
    if len(free := [axis for axis in AXES if getattr(self, axis) == -1]) > 1:
      raise ValueError(f"{self}: {' and '.join(free)} are -1; legal: at most one of {', '.join(AXES)}")

  def __str__(self) -> str:
    return "mesh " + " ".join(f"{axis}={getattr(self, axis)}" for axis in AXES)

  def shape(self, devices: int) -> tuple[int, int, int]:
    """The ways of data, fsdp and tensor on this many devices.

    Raises:
      ValueError: their product is not the number of devices.
    """
    ways = [getattr(self, axis) for axis in AXES]
    fixed = math.prod(n for n in ways if n != -1)
    if -1 in ways:
      if devices % fixed:
        raise ValueError(
          f"{self} needs a multiple of {fixed} devices; found {devices}; legal products of the fixed axes: "
          f"{', '.join(map(str, _divisors(devices)))}"
        )
      ways[ways.index(-1)] = devices // fixed
    elif fixed != devices:
      raise ValueError(
        f"{self} needs {fixed} {'device' if fixed == 1 else 'devices'}; found {devices}; legal: data * fsdp * tensor "
        f"= {devices}, or data=-1 with fsdp * tensor one of {', '.join(map(str, _divisors(devices)))}"
      )
    return tuple(ways)  # type: ignore[return-value]


def make(config: Mesh | None = None, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
  """The mesh of a config over `devices` (default: all), with axes data, fsdp and tensor that XLA may lay out (Auto).

  Raises:
    ValueError: the axes do not multiply to the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  shape = (config or Mesh()).shape(len(devices))
  return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def check_batch(stream: str, batch: int, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh, micro: int = 1) -> None:
  """Check that a global batch, cut into `micro` parts, splits evenly over the data and fsdp axes.

  Raises:
    ValueError: it does not; names the stream, the batch, the mesh and the nearest legal values.
  """
  if micro < 1:
    raise ValueError(f"config.streams.{stream}.micro = {micro}; legal: a positive number of micro-batches")
  ways = mesh.shape["data"] * mesh.shape["fsdp"]
  unit = ways * micro
  if batch > 0 and batch % unit == 0:
    return
  below = batch // unit * unit
  near = [str(n) for n in (below, below + unit) if n > 0]
  cut = f" in {micro} micro-batches" if micro > 1 else ""
  raise ValueError(
    f"config.streams.{stream}.batch = {batch}{cut} does not divide over data * fsdp = "
    f"{mesh.shape['data']} * {mesh.shape['fsdp']} = {ways} of the mesh; nearest legal: {' or '.join(near)}"
  )


def initialize(address: str | None = None, processes: int | None = None, process: int | None = None) -> bool:
  """Join this process to the others of the run; call before any other use of JAX. True if there are several.

  Arguments that are None come from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. Without these,
  Slurm, Open MPI and TPU slices are recognised, and JAX finds the rest; a lone process is left be.

  Raises:
    ValueError: only some of the three are given, or they contradict each other.
  """
  names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
  given = dict(zip(names, (address, processes, process), strict=True))
  values = {name: os.environ.get(name) if value is None else value for name, value in given.items()}
  found = {name: value for name, value in values.items() if value not in (None, "")}
  if not found:
    if not _cluster(os.environ):
      return False
    jax.distributed.initialize()
    return jax.process_count() > 1
  count, index = (_number(name, found.get(name)) for name in names[1:])
  if count == 1:
    return False
  if len(found) < len(names):
    missing = ", ".join(name for name in names if name not in found)
    raise ValueError(
      f"found {', '.join(f'{k}={v}' for k, v in found.items())}, but {missing} is missing; set all three"
    )
  if not 0 <= index < count:
    raise ValueError(f"JAX_PROCESS_ID={index} is out of range; legal: 0 to {count - 1} (JAX_NUM_PROCESSES={count})")
  jax.distributed.initialize(str(found[names[0]]), num_processes=count, process_id=index)
  return True


def _cluster(environment: Mapping[str, str]) -> bool:
  """Whether JAX should look for the other processes: a cluster says that there are some, or this is a TPU host."""
  told = [count(environment[name]) > 1 for name, count in _CLUSTERS.items() if name in environment]
  return any(told) if told else _on_tpu(environment)


def _on_tpu(environment: Mapping[str, str]) -> bool:
  """Whether this is a TPU host whose metadata server names the other hosts of the slice."""
  wanted = environment.get("JAX_PLATFORMS", "tpu").startswith("tpu") and "TPU_SKIP_MDS_QUERY" not in environment
  if not wanted or importlib.util.find_spec("libtpu") is None:
    return False
  devices = epath.Path("/dev")
  return any(devices.glob("accel[0-9]*")) or any(devices.glob("vfio/[0-9]*"))


def _number(name: str, value: Any) -> int:
  if value is None:
    return -1
  try:
    return int(value)
  except ValueError:
    raise ValueError(f"{name}={value!r} is not a number") from None


def _divisors(n: int) -> list[int]:
  return [i for i in range(1, n + 1) if n % i == 0]
