"""Logical axis names, and the rules that map them onto the mesh.

Modules name what an axis means; a config's rules say where it lies. JAX replicates a misspelt name silently and
forgets rules outside their context, so names come from an enum and `use` enters mesh and rules together.
"""

import contextlib
import contextvars
import enum
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vljax import config

MeshAxes = str | tuple[str, ...] | None


class Axis(enum.StrEnum):
  """What an axis of a parameter or an activation means."""

  BATCH = "batch"
  LAYERS = "layers"
  POSITION = "position"
  EMBED = "embed"
  MLP = "mlp"
  HEADS = "heads"
  HEAD_DIM = "head_dim"
  VOCAB = "vocab"
  JOINT = "joint"
  CONV_IN = "conv_in"
  CONV_OUT = "conv_out"


DEFAULT: dict[str, MeshAxes] = {
  Axis.BATCH: ("data", "fsdp"),
  Axis.LAYERS: None,
  Axis.POSITION: None,
  Axis.EMBED: "fsdp",
  Axis.MLP: "tensor",
  Axis.HEADS: "tensor",
  Axis.HEAD_DIM: None,
  Axis.VOCAB: "tensor",
  Axis.JOINT: None,
  Axis.CONV_IN: None,
  Axis.CONV_OUT: "fsdp",
}

_active: contextvars.ContextVar[Mapping[str, MeshAxes] | None] = contextvars.ContextVar("rules", default=None)


@contextlib.contextmanager
def use(mesh: Mesh, rules: Mapping[str, MeshAxes] = DEFAULT) -> Iterator[None]:
  """Enter a mesh and the rules for its logical axes; the one way in for training, evaluation and the hub.

  Raises:
    ValueError: a rule for an unknown logical axis, or onto an axis that the mesh lacks.
  """
  rules = check(mesh, rules)
  token = _active.set(rules)
  try:
    with jax.set_mesh(mesh):
      yield
  finally:
    _active.reset(token)


def check(mesh: Mesh, rules: Mapping[str, MeshAxes]) -> dict[str, MeshAxes]:
  """The default rules with `rules` over them, every name known."""
  for name, target in rules.items():
    if name not in DEFAULT:
      raise ValueError(config.unknown(f"logical axis {name!r} in config.rules", name, DEFAULT))
    for axis in _axes(target):
      if axis not in mesh.axis_names:
        raise ValueError(config.unknown(f"mesh axis {axis!r} in config.rules.{name}", axis, mesh.axis_names))
  return {**DEFAULT, **rules}


def spec(names: tuple[str | None, ...], rules: Mapping[str, MeshAxes]) -> PartitionSpec:
  """The mesh axes of an array whose axes have these logical names; a mesh axis is used once, by the first name."""
  used: set[str] = set()
  entries: list[MeshAxes] = []
  for name in names:
    if name is not None and name not in DEFAULT:
      raise ValueError(config.unknown(f"logical axis {str(name)!r}", str(name), DEFAULT))
    target = rules.get(name, DEFAULT[name]) if name else None
    free = tuple(a for a in _axes(target) if a not in used)
    used.update(free)
    entries.append(free[0] if len(free) == 1 else free or None)
  return PartitionSpec(*entries)


def sharding(
  mesh: Mesh, rules: Mapping[str, MeshAxes], names: tuple[str | None, ...], shape: tuple[int, ...]
) -> NamedSharding:
  """Where an array of this shape lies; an axis that its mesh axes do not divide stays whole."""
  if len(names) != len(shape):
    raise ValueError(f"logical axes {tuple(map(str, names))} name {len(names)} axes of an array of shape {shape}")
  fitting = []
  for entry, length in zip(spec(names, rules), shape, strict=True):
    ways = 1
    for axis in _axes(entry):
      ways *= mesh.shape[axis]
    fitting.append(entry if length % ways == 0 else None)
  return NamedSharding(mesh, PartitionSpec(*fitting))


def placement(
  mesh: Mesh, rules: Mapping[str, MeshAxes], axes: Mapping[str, tuple[str | None, ...]]
) -> Callable[[str, Any], NamedSharding]:
  """(parameter name, its array or shape) -> where it lies, by the logical axes of that name; without any, whole."""
  rules = check(mesh, rules)

  def place(name: str, array: Any) -> NamedSharding:
    return sharding(mesh, rules, axes.get(name) or (None,) * len(array.shape), array.shape)

  return place


def constrain(x: Any, *names: str | None) -> Any:
  """Hint where an activation lies, by logical names; without a mesh nothing happens.

  Raises:
    ValueError: an unknown name, or a mesh was entered without rules (use `parallel.use`).
  """
  mesh = jax.sharding.get_abstract_mesh()
  rules = _active.get()
  for name in names:
    if name is not None and name not in DEFAULT:
      raise ValueError(config.unknown(f"logical axis {str(name)!r}", str(name), DEFAULT))
  if mesh.empty:
    return x
  if rules is None:
    raise ValueError("a mesh was entered without logical axis rules; enter both with parallel.use(mesh, rules)")
  where = sharding(mesh, rules, names, x.shape)  # type: ignore[arg-type]
  return jax.lax.with_sharding_constraint(x, where)


def batch_axes(rules: Mapping[str, MeshAxes]) -> tuple[str, ...]:
  """The mesh axes over which the examples of a batch lie."""
  return _axes(rules.get(Axis.BATCH, DEFAULT[Axis.BATCH]))


def ways() -> int:
  """Into how many parts a batch is cut on the mesh that `use` entered; 1 without one."""
  mesh, rules = jax.sharding.get_abstract_mesh(), active()
  return 1 if mesh.empty or rules is None else math.prod(mesh.shape[axis] for axis in batch_axes(rules))


def active() -> Mapping[str, MeshAxes] | None:
  """The rules that `use` entered, if any."""
  return _active.get()


def _axes(target: MeshAxes) -> tuple[str, ...]:
  return () if target is None else (target,) if isinstance(target, str) else tuple(target)
