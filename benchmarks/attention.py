"""Attention with its gradient on the shapes of real models, against jax.nn.dot_product_attention."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.timing import Result, interleaved, milliseconds, ratio
from vljax.ops.attention import attention
from vljax.ops.attention.shapes import SHAPES, Shape

POSITIONS = {"cpu": 2048, "gpu": 65536, "tpu": 65536}
"""Batch times length of a call, by platform."""


def run(repeats: int) -> Result:
  """Milliseconds of the forward pass and of the gradient."""
  rows = [time(name, shape, repeats) for name, shape in SHAPES.items()]
  return Result(f"attention, float32, {jax.default_backend()}", rows, "at least 1.0x jax.nn on every shape")


def time(name: str, shape: Shape, repeats: int) -> dict[str, Any]:
  calls = {
    "vljax": lambda q, k, v: attention(q, k, v, causal=shape.causal),
    "jax.nn": lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=shape.causal),
  }
  batch = max(1, POSITIONS[jax.default_backend()] // max(shape.queries, shape.keys))
  sizes = [(shape.queries, shape.heads), (shape.keys, shape.kv_heads), (shape.keys, shape.kv_heads)]
  keys = jax.random.split(jax.random.key(0), 3)
  inputs = [jax.random.normal(key, (batch, *size, shape.dim)) for key, size in zip(keys, sizes, strict=True)]
  forward = interleaved({n: ready(jax.jit(call), inputs) for n, call in calls.items()}, repeats)
  backward = interleaved({n: ready(jax.jit(gradient(call)), inputs) for n, call in calls.items()}, repeats)
  return {
    "shape": name,
    "b t s k g d": f"{batch} {shape.queries} {shape.keys} {shape.heads} {shape.kv_heads} {shape.dim}",
    "forward ms": milliseconds(forward, "vljax"),
    "jax.nn / vljax": ratio(forward, "jax.nn"),
    "gradient ms": milliseconds(backward, "vljax"),
    "jax.nn / vljax, gradient": ratio(backward, "jax.nn"),
  }


def gradient(call: Callable[..., jax.Array], inputs: int = 3) -> Callable[..., Any]:
  return jax.grad(lambda *x: jnp.sum(jnp.square(call(*x))), argnums=tuple(range(inputs)))


def ready(function: Callable[..., Any], inputs: list[jax.Array]) -> Callable[[], Any]:
  return lambda: jax.block_until_ready(function(*inputs))
