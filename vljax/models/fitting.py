"""Parameters made for one model, fitted to another: shapes checked, positions resized."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax import config, tree
from vljax.layers.batch_norm import STATISTICS
from vljax.types import Params

GRIDS = re.compile(r"(.*/)?(image|vision)/(pool/)?pos")
"""Positions of an image tower, in a dual encoder or a Flamingo."""


def abstract(model: nn.Module, *, boxed: bool = False) -> Params:
  """Shapes and dtypes of a model's parameters, nothing computed; `boxed` keeps the logical axes on them."""
  params = jax.eval_shape(model.init, jax.random.key(0), *model.inputs())["params"]
  return params if boxed else nn.meta.unbox(params)


def abstract_weights(model: nn.Module) -> Params:
  """Shapes and dtypes of a model's parameters and, under their own key, of its batch statistics if it has any."""
  variables = nn.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), *model.inputs()))
  return {**variables["params"], **{name: variables[name] for name in (STATISTICS,) if name in variables}}


def check(params: Params, model: nn.Module, origin: str = "the parameters", *, statistics: bool = False) -> Params:
  """The parameters, if names and shapes are the model's, its batch statistics among them if `statistics`.

  Raises:
    ValueError: a missing or an unknown name, or a shape that differs; each is named.
  """
  found, wanted = tree.flatten(params), tree.flatten(abstract_weights(model) if statistics else abstract(model))
  for name in found:
    if name not in wanted:
      raise ValueError(f"{origin}: {config.unknown(f'parameter {name!r}', name, wanted)[:600]}")
  missing = [name for name in wanted if name not in found]
  if missing:
    raise ValueError(f"{origin} lack {len(missing)} of the model's parameters: {', '.join(missing[:5])}")
  wrong = [
    f"{name} {tuple(found[name].shape)}, the model has {leaf.shape}"
    for name, leaf in wanted.items()
    if tuple(found[name].shape) != leaf.shape
  ]
  if wrong:
    raise ValueError(f"{origin} do not fit the model: {'; '.join(wrong[:5])}")
  return params


def resize_grid(positions: Float[Array, "n d"], grid: int, extra: int = 0) -> Float[Array, "m d"]:
  """Positions of a square grid of tokens for another grid: bicubic, antialiased when it shrinks.

  The first `extra` rows (the class token) stay. Equal to torch's `interpolate(mode="bicubic", antialias=True)`, which
  open_clip uses.

  Raises:
    ValueError: the rows form no square.
  """
  old = round((positions.shape[0] - extra) ** 0.5)
  if old * old + extra != positions.shape[0]:
    raise ValueError(f"{positions.shape[0]} positions are no square grid with {extra} more in front")
  if old == grid:
    return positions
  table = jnp.asarray(positions)
  cells = jax.image.resize(
    table[extra:].reshape(old, old, -1), (grid, grid, table.shape[-1]), "bicubic", antialias=True
  )
  return jnp.concatenate([table[:extra], cells.reshape(grid * grid, -1).astype(table.dtype)])


def resize_leaf(name: str, leaf: Float[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
  """A leaf of another model for a target of this shape: position grids are resized, other leaves stay as they are.

  What `checkpoint.partial` takes as its `resize`. A grid of n * n rows may have a class token in front.
  """
  if not GRIDS.fullmatch(name) or leaf.shape[1:] != shape[1:]:
    return leaf
  for extra in (0, 1):
    old, new = ((rows - extra) ** 0.5 for rows in (leaf.shape[0], shape[0]))
    if old.is_integer() and new.is_integer():
      return resize_grid(leaf, int(new), extra)
  return leaf
