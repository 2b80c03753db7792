"""Which form of a pairwise loss is computed: the whole matrix of scores, tiles of it, or tiles around a ring."""

import math
from typing import NamedTuple

import jax
from jax.sharding import AbstractMesh

from vljax import config
from vljax.parallel import rules

IMPLEMENTATIONS = ("plain", "tiled", "ring")
"""`plain` holds n x n scores, `tiled` TILE x TILE of them on one device, `ring` the same on each of several."""

LARGE = 2**25
"""Scores per device (128 MiB in float32) from which on the matrix is no longer held by default."""

TILE = 1024
"""Rows and columns of a tile."""


class Ring(NamedTuple):
  """The mesh axes over which the pairs lie; none of them: one device computes all."""

  mesh: AbstractMesh | None = None
  axes: tuple[str, ...] = ()

  @property
  def size(self) -> int:
    """Devices of the ring."""
    return math.prod(self.mesh.shape[axis] for axis in self.axes) if self.axes else 1


def around(pairs: int) -> Ring:
  """The ring of the mesh that was entered, if it cuts this number of pairs."""
  mesh, active = jax.sharding.get_abstract_mesh(), rules.active()
  if mesh.empty or active is None:
    return Ring()
  ring = Ring(mesh, tuple(axis for axis in rules.batch_axes(active) if mesh.shape[axis] > 1))
  return ring if ring.axes and pairs % ring.size == 0 else Ring()


def form(pairs: int, devices: int = 1) -> str:
  """The form by default of so many pairs that lie on so many devices."""
  if pairs**2 <= LARGE * devices:
    return "plain"
  return "ring" if devices > 1 else "tiled"


def choose(implementation: str | None, pairs: int) -> tuple[str, Ring]:
  """The named form, or for None the one that fits the number of pairs and the mesh, and its ring.

  Raises:
    ValueError: an unknown name; a ring without a mesh that divides the pairs; tiles of pairs that lie on several
      devices, which would gather all of them on each.
  """
  ring = around(pairs)
  if implementation is None:
    return form(pairs, ring.size), ring
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
      config.unknown(f"implementation {implementation!r} of a contrastive loss", implementation, IMPLEMENTATIONS)
    )
  if implementation == "ring" and not ring.axes:
    raise ValueError(
      f"a ring needs {pairs} pairs that lie on several devices of a mesh entered with parallel.use; use 'tiled' on one"
    )
  if implementation == "tiled" and ring.axes:
    raise ValueError(
      f"'tiled' is the form of one device; the {pairs} pairs lie on {ring.size} devices, for which there is 'ring'"
    )
  return implementation, ring if implementation == "ring" else Ring()
