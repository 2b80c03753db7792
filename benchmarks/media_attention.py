"""Attention of text rows to their own medium, in tiles and with masks, with its gradient and in decoding."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.attention import gradient, ready
from benchmarks.timing import Result, interleaved, milliseconds, ratio
from vljax.ops.attention import media, media_attention


class Shape(NamedTuple):
  """Examples, rows, media, tokens of a medium, heads, head dimension."""

  batch: int
  rows: int
  media: int
  tokens: int
  heads: int
  dim: int


SHAPES = {
  "Flamingo-3B, training": Shape(4, 256, 5, 64, 16, 128),
  "OpenFlamingo, training": Shape(8, 256, 5, 64, 8, 64),
  "Flamingo-3B, 32 shots": Shape(1, 2048, 32, 64, 16, 128),
  "Flamingo-3B, a caption": Shape(8, 32, 1, 64, 16, 128),
  "Flamingo-3B, next token of 4 shots": Shape(4, 1, 5, 64, 16, 128),
  "Flamingo-3B, next token of 32 shots": Shape(4, 1, 32, 64, 16, 128),
}


def run(repeats: int) -> Result:
  """Milliseconds of the form that is chosen, and how many times as long both forms take."""
  rows = [time(name, shape, repeats) for name, shape in SHAPES.items()]
  goal = "tiles are chosen only where they are faster"
  return Result(f"attention to one's own medium, float32, {jax.default_backend()}", rows, goal)


def time(name: str, shape: Shape, repeats: int) -> dict[str, Any]:
  phi = 1 + jnp.broadcast_to(jnp.arange(shape.rows) * shape.media // shape.rows, (shape.batch, shape.rows))
  calls = {form: lambda q, k, v, form=form: media_attention(q, k, v, phi, form=form) for form in media.FORMS}
  keys = jax.random.split(jax.random.key(0), 3)
  sizes = [(shape.rows,), (shape.media, shape.tokens), (shape.media, shape.tokens)]
  inputs = [
    jax.random.normal(key, (shape.batch, *size, shape.heads, shape.dim)) for key, size in zip(keys, sizes, strict=True)
  ]
  forward = interleaved({n: ready(jax.jit(f), inputs) for n, f in calls.items()}, repeats)
  backward = interleaved({n: ready(jax.jit(gradient(f)), inputs) for n, f in calls.items()}, repeats)
  chosen = media.choose(shape.rows, shape.media)
  return {
    "case": name,
    "b t n s k d": " ".join(map(str, shape)),
    "form": chosen,
    "forward ms": milliseconds(forward, chosen),
    "dense / tiles": ratio(forward, "dense", "tiles"),
    "gradient ms": milliseconds(backward, chosen),
    "dense / tiles, gradient": ratio(backward, "dense", "tiles"),
  }
