"""Adaptive gradient clipping: the gradient of each unit is at most a share of the unit (arXiv 2102.06171, section 4).

A unit is what makes one output: a column of a linear map, a filter of a convolution. What its axes are shows in the
name of the leaf and its rank, since a rule by rank alone (optax, DeepMind) takes a stack of convolutions for one, and
the axis of heads for inputs.
"""

from typing import Literal

import jax.numpy as jnp

from vljax.types import Array

Vectors = Literal["whole", "element"]

HEADED = ("query", "key", "value")
"""Linear maps to [heads, head_dim]: two axes of outputs."""

VECTORS = ("bias", "gain", "scale", "skip_gain", "log_scale")
"""Leaves that are one vector whatever their rank."""


def unit_axes(name: str, rank: int, vectors: Vectors = "whole") -> tuple[int, ...]:
  """The axes of a leaf, or of one layer of a stacked leaf, that a unit's norm goes over.

  Kernels [..., inputs, outputs] have a unit for each output, maps to heads [width, heads, head_dim] for each pair of
  the last two, the map from heads [heads, head_dim, width] for each of its outputs; tables (embeddings, positions)
  have one for each row. Vectors and scalars are one unit, as DeepMind has it, or with `element` each number is one
  (timm, where gains have the shape [o, 1, 1, 1]).
  """
  *_, module, leaf = ["", *name.split("/")]
  if leaf in VECTORS or rank < 2:
    return tuple(range(rank)) if vectors == "whole" else ()
  if leaf != "kernel":
    return (rank - 1,)
  return tuple(range(rank - (2 if module in HEADED and rank > 2 else 1)))


def clip(grad: Array, leaf: Array, axes: tuple[int, ...], limit: Array | float, eps: Array | float) -> Array:
  """grad * min(1, limit * max(|leaf|, eps) / |grad|), each unit with its own norms, in float32.

  Args:
    axes: those of `unit_axes`, counted after a layer axis if limit is a vector over it.
    eps: so that weights which are zero at the start can grow.
  """
  limit, eps = jnp.asarray(limit, jnp.float32), jnp.asarray(eps, jnp.float32)
  layers = max(limit.ndim, eps.ndim)
  axes = tuple(axis + layers for axis in axes)
  spread = lambda x: x.reshape(x.shape + (1,) * (leaf.ndim - x.ndim))
  norm = lambda x: jnp.sqrt(jnp.sum(jnp.square(x.astype(jnp.float32)), axes, keepdims=True))
  most = spread(limit) * jnp.maximum(norm(leaf), spread(eps))
  size = norm(grad)
  return (grad * jnp.where(size > most, most / jnp.maximum(size, 1e-6), 1.0)).astype(grad.dtype)
