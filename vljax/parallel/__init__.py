"""The device mesh, the rules that lay arrays on it, and the way of host data onto it."""

from vljax.parallel.arrays import batch_sharding, replicate, share, to_global, to_host
from vljax.parallel.mesh import Mesh, check_batch, initialize, make
from vljax.parallel.rules import DEFAULT, Axis, constrain, placement, sharding, use, ways

__all__ = [
  "DEFAULT",
  "Axis",
  "Mesh",
  "batch_sharding",
  "check_batch",
  "constrain",
  "initialize",
  "make",
  "placement",
  "replicate",
  "sharding",
  "share",
  "to_global",
  "to_host",
  "use",
  "ways",
]
