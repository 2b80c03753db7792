"""NFNets: what standardized kernels cost, who convolves in groups faster, and F0 against timm's in torch."""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import rivals
from benchmarks.timing import Result, interleaved, milliseconds, ratio
from vljax.models import fitting, nfnet
from vljax.ops.nfnet import conv, standardize
from vljax.ops.nfnet.shapes import SHAPES, Shape

MICRO, BATCH = 4, 4
"""Micro-batches of a step, and pictures of each."""

SIZE = {"cpu": 96, "gpu": 192, "tpu": 192}
"""Pixels per side of the pictures that F0 sees, by platform."""


def run(repeats: int) -> Result:
  """Milliseconds and ratios, one table of three parts."""
  rows = [overhead(name, shape, repeats) for name, shape in SHAPES.items()]
  rows += [groups(name, shape, repeats) for name, shape in SHAPES.items() if shape.groups > 1]
  rows += encoder(repeats)
  goal = "standardizing costs under 3 % of a step and nothing in inference; the chosen grouped convolution is the "
  notes = [] if importlib.util.find_spec("timm") and rivals.installed() else [rivals.HOW]
  return Result(f"NFNet, float32, {jax.default_backend()}", rows, f"{goal}faster one; F0 at least 1.0x timm", notes)


def row(what: str, work: str, seconds: dict[str, float], ours: str, rival: str) -> dict[str, Any]:
  return {
    "what": what, "work": work, "ours": ours, "ms": milliseconds(seconds, ours), "rival": rival,
    "rival ms": milliseconds(seconds, rival), "rival / ours": ratio(seconds, rival, ours),
  }  # fmt: skip


def inputs(shape: Shape) -> tuple[jax.Array, jax.Array, jax.Array]:
  rng = np.random.default_rng(0)
  draw = lambda *size: jnp.asarray(rng.normal(size=size), jnp.float32)
  x = draw(MICRO, BATCH, shape.size, shape.size, shape.channels)
  return x, draw(shape.kernel, shape.kernel, shape.channels // shape.groups, shape.features), draw(shape.features)


def overhead(name: str, shape: Shape, repeats: int) -> dict[str, Any]:
  """The gradient of a layer over MICRO micro-batches: kernels standardized once, against kernels as they are."""
  x, kernel, gain = inputs(shape)
  layer = lambda x, kernel: conv(x, kernel, stride=shape.stride, groups=shape.groups)
  loopless = jax.default_backend() == "cpu"  # in a loop XLA's convolutions are slow there, and hide what is measured

  def step(make: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[[], Any]:
    def gradient(x: jax.Array, kernel: jax.Array, gain: jax.Array) -> Any:
      seen, pull = jax.vjp(make, kernel, gain)
      part = jax.grad(lambda k, x: jnp.sum(jnp.square(layer(x, k))))
      total, _ = jax.lax.scan(lambda sum, x: (sum + part(seen, x), None), jnp.zeros_like(seen), x, unroll=loopless)
      return pull(total)

    compiled = jax.jit(gradient)
    return lambda: jax.block_until_ready(compiled(x, kernel, gain))

  seconds = interleaved({"standardized": step(standardize), "plain": step(lambda k, g: k + 0 * g)}, repeats)
  return row(f"{name}, gradient", f"{MICRO} x {BATCH}", seconds, "standardized", "plain")


def groups(name: str, shape: Shape, repeats: int) -> dict[str, Any]:
  """A grouped convolution with its gradient: split into dense ones against XLA's own."""
  x, kernel, _ = inputs(shape)

  def gradient(implementation: str) -> Callable[[], Any]:
    layer = lambda x, k: conv(x, k, stride=shape.stride, groups=shape.groups, implementation=implementation)
    compiled = jax.jit(jax.grad(lambda x, k: jnp.sum(jnp.square(layer(x, k))), (0, 1)))
    return lambda: jax.block_until_ready(compiled(x[0], kernel))

  seconds = interleaved({name: gradient(name) for name in ("split", "native")}, repeats)
  return row(f"{name}, gradient", f"{BATCH}", seconds, "split", "native")


def encoder(repeats: int) -> list[dict[str, Any]]:
  """F0 without its classifier: gradient of all parameters against timm; forward folded, and standardized each time."""
  size = SIZE[jax.default_backend()]
  model = nfnet.build("F0", image_size=size)
  rng = np.random.default_rng(0)
  draw = lambda x: jnp.asarray(rng.normal(size=x.shape) * max(1, np.prod(x.shape[:-1])) ** -0.5, jnp.float32)
  params = jax.tree.map(draw, fitting.abstract(model))
  image = jnp.asarray(rng.normal(size=(BATCH, size, size, 3)), jnp.float32)
  folded = jax.jit(model.fold)(params)
  forward = lambda model: jax.jit(lambda p, x: model.apply({"params": p}, x))
  plain, own = forward(model.clone(folded=True)), forward(model)
  gradient = jax.jit(jax.grad(lambda p, x: jnp.sum(jnp.square(model.apply({"params": p}, x)))))
  calls = {
    "folded": lambda: jax.block_until_ready(plain(folded, image)),
    "standardized": lambda: jax.block_until_ready(own(params, image)),
  }
  trained = {"vljax": lambda: jax.block_until_ready(gradient(params, image))}
  if importlib.util.find_spec("timm") and rivals.installed():
    calls["timm"], trained["timm"] = theirs(size)
  seconds, training = interleaved(calls, repeats), interleaved(trained, repeats)
  what = f"F0 at {size} px"
  return [
    row(f"{what}, forward", f"{BATCH}", seconds, "folded", "standardized"),
    row(f"{what}, forward", f"{BATCH}", seconds, "folded", "timm"),
    row(f"{what}, gradient", f"{BATCH}", training, "vljax", "timm"),
  ]


def theirs(size: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
  """timm's dm_nfnet_f0 without its classifier: forward, and the gradient of all parameters."""
  rivals.torchvision()
  import timm
  import torch

  model = timm.create_model("dm_nfnet_f0", pretrained=False, num_classes=0)
  pixels = torch.randn(BATCH, 3, size, size)

  @torch.inference_mode()
  def forward() -> Any:
    return model.eval()(pixels)

  def gradient() -> None:
    model.train().zero_grad(set_to_none=True)
    model(pixels).square().sum().backward()

  return forward, gradient
