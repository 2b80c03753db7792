"""Attention with its gradient on the shapes of real models, against jax.nn.dot_product_attention."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.timing import Result, interleaved, milliseconds, ratio
from vljax.ops.attention import attention


@dataclasses.dataclass(frozen=True)
class Shape:
  """Sizes of one call, by the glossary's letters."""

  name: str
  batch: int
  length: int
  heads: int
  dim: int
  causal: bool = False


SHAPES = (
  Shape("quickstart image", 256, 17, 4, 48),
  Shape("ViT 64px/8 image", 64, 65, 4, 64),
  Shape("ViT-B/32 image", 16, 50, 12, 64),
  Shape("ViT-B/16 image", 8, 197, 12, 64),
  Shape("ViT-L/14 image", 4, 257, 16, 64),
  Shape("CLIP text", 16, 77, 8, 64, causal=True),
  Shape("decoder", 2, 512, 12, 64, causal=True),
)


def run(repeats: int) -> Result:
  """Milliseconds of the forward pass and of the gradient."""
  rows = [time(shape, repeats) for shape in SHAPES]
  return Result(f"attention, float32, {jax.default_backend()}", rows, "at least 1.0x jax.nn on every shape")


def time(shape: Shape, repeats: int) -> dict[str, Any]:
  calls = {
    "vljax": lambda q, k, v: attention(q, k, v, causal=shape.causal),
    "jax.nn": lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=shape.causal),
  }
  keys = jax.random.split(jax.random.key(0), 3)
  inputs = [jax.random.normal(key, (shape.batch, shape.length, shape.heads, shape.dim)) for key in keys]
  forward = interleaved({n: ready(jax.jit(call), inputs) for n, call in calls.items()}, repeats, number=3)
  backward = interleaved({n: ready(jax.jit(gradient(call)), inputs) for n, call in calls.items()}, repeats, number=3)
  return {
    "shape": shape.name,
    "b t k d": f"{shape.batch} {shape.length} {shape.heads} {shape.dim}",
    "forward ms": milliseconds(forward, "vljax"),
    "jax.nn / vljax": ratio(forward, "jax.nn"),
    "gradient ms": milliseconds(backward, "vljax"),
    "jax.nn / vljax, gradient": ratio(backward, "jax.nn"),
  }


def gradient(call: Callable[..., jax.Array]) -> Callable[..., Any]:
  return jax.grad(lambda *x: jnp.sum(jnp.square(call(*x))), argnums=(0, 1, 2))


def ready(function: Callable[..., Any], inputs: list[jax.Array]) -> Callable[[], Any]:
  return lambda: jax.block_until_ready(function(*inputs))
