"""A resampler's attention with its gradient on the shapes of real models, against attention over the concatenation."""

from typing import Any

import jax

from benchmarks.attention import POSITIONS, gradient, ready
from benchmarks.timing import Result, interleaved, milliseconds, ratio
from vljax.ops.resampler import resample
from vljax.ops.resampler.shapes import SHAPES, Shape


def run(repeats: int) -> Result:
  """Milliseconds of the forward pass and of the gradient."""
  rows = [time(name, shape, repeats) for name, shape in SHAPES.items()]
  return Result(f"resampler, float32, {jax.default_backend()}", rows, "at least 1.0x the paper's form on every shape")


def time(name: str, shape: Shape, repeats: int) -> dict[str, Any]:
  def call(implementation: str | None):
    return lambda q, a, b, c, d: resample(q, (a, b), (c, d), implementation=implementation)

  calls = {"vljax": call(None), "reference": call("reference")}
  batch = max(1, POSITIONS[jax.default_backend()] // (shape.latents + shape.tokens) // 2)
  sizes = [shape.latents, shape.tokens, shape.tokens, shape.latents, shape.latents]
  keys = jax.random.split(jax.random.key(0), len(sizes))
  inputs = [jax.random.normal(key, (batch, n, shape.heads, shape.dim)) for key, n in zip(keys, sizes, strict=True)]
  forward = interleaved({n: ready(jax.jit(f), inputs) for n, f in calls.items()}, repeats)
  backward = interleaved({n: ready(jax.jit(gradient(f, len(inputs))), inputs) for n, f in calls.items()}, repeats)
  return {
    "shape": name,
    "b l s k d": f"{batch} {shape.latents} {shape.tokens} {shape.heads} {shape.dim}",
    "forward ms": milliseconds(forward, "vljax"),
    "reference / vljax": ratio(forward, "reference"),
    "gradient ms": milliseconds(backward, "vljax"),
    "reference / vljax, gradient": ratio(backward, "reference"),
  }
