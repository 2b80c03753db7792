"""What a run will need per device, told from its config alone: no data, no devices, nothing computed."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh

from vljax import config as config_lib
from vljax import recipes
from vljax.objectives.contrastive import choice
from vljax.parallel import rules as logical
from vljax.parallel.mesh import AXES, check_batch
from vljax.recipes import imagebind, simclr
from vljax.train import metrics, schedules
from vljax.train import state as states
from vljax.train.optim import Optimiser
from vljax.train.recipe import Paired, Phase, Recipe
from vljax.train.run import Run
from vljax.train.step import due_at, merge_batches, merged_share
from vljax.types import Batch

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """Memory in bytes, and FLOP/s of dense bfloat16 products, of one device as its maker states them."""

  memory: float
  flops: float


ACCELERATORS = {
  "a100": Accelerator(80e9, 312e12),
  "h100": Accelerator(80e9, 989e12),
  "h200": Accelerator(141e9, 989e12),
  "v4": Accelerator(32 * GIB, 275e12),
  "v5e": Accelerator(16 * GIB, 197e12),
  "v5p": Accelerator(95 * GIB, 459e12),
  "v6e": Accelerator(32 * GIB, 918e12),
}
"""NVIDIA's data sheets (SXM) and Google Cloud's TPU pages."""

FIT = 0.9
"""The share of a device's memory that a plan may fill; the rest is the runtime's."""

HORIZON = 5040
"""Steps of a run whose phases and streams are looked at: a multiple of most periods."""


@dataclasses.dataclass(frozen=True)
class Plan:
  """Bytes on the fullest device at the fullest step, and the mean work of a step.

  Steps differ where `combine` takes the streams in turn, a phase or stream is lazy (`every`) or the recipe draws what
  is due. So activations and loss are the most of any phase and stream, which run one after the other, and FLOPs the
  mean over the steps of the run (of a long run, over its first 5,040). Merged streams count as one batch.

  Attributes:
    mesh: axis to ways.
    parameters: how many in all.
    bytes: part to bytes: parameters, optimiser, ema, extras (exact), gradients (as large as what is trained),
      activations (what differentiation saves for one part of the batch, batch axes divided over the mesh; remat is
      seen) and loss (the scores of pairs).
    flops: of the mean step on one device.
    loss: the form of the contrastive loss that holds the most, or None.
    accelerator: name, or None.
  """

  mesh: dict[str, int]
  parameters: int
  bytes: dict[str, int]
  flops: float
  loss: str | None
  accelerator: str | None = None

  @property
  def total(self) -> int:
    """Bytes of all parts."""
    return sum(self.bytes.values())

  @property
  def seconds(self) -> float | None:
    """The least that the mean step can take: its FLOPs at the accelerator's peak."""
    return None if self.accelerator is None else self.flops / ACCELERATORS[self.accelerator].flops

  def table(self) -> str:
    """Lines of aligned text."""
    rows = [("mesh", ", ".join(f"{axis} {n}" for axis, n in self.mesh.items()))]
    rows += [("parameters", f"{self.parameters:,}")]
    rows += [(f"  {name}", _size(value)) for name, value in self.bytes.items()]
    rows += [("bytes per device", _size(self.total))]
    rows += [("loss", self.loss)] if self.loss else []
    rows += [("step per device", f"{self.flops / 1e12:,.3g} TFLOP on average")]
    if self.accelerator:
      memory = ACCELERATORS[self.accelerator].memory
      rows += [(self.accelerator, f"{100 * self.total / memory:.0f} % of {_size(memory)}; a step takes "
                                  f"{1e3 * self.seconds:,.3g} ms at least")]  # fmt: skip
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

  def to_json(self) -> dict[str, Any]:
    """Plain values."""
    return {**dataclasses.asdict(self), "total": self.total, "seconds": self.seconds}


def plan(raw: Any, devices: int, accelerator: str | None = None) -> Plan:
  """The plan of a raw or parsed config on so many devices.

  Raises:
    ValueError: a config or mesh that cannot be, a batch that the mesh does not divide, a recipe that this first
      version does not know, or a run that does not fit the accelerator: names the largest part and what would make it
      smaller.
  """
  if devices < 1:
    raise ValueError(f"devices = {devices}; legal: 1 or more")
  parsed = recipes.parse(raw)
  if accelerator is not None:
    config_lib.choose("accelerator", accelerator, ACCELERATORS)
  recipe = recipes.build(parsed)
  mesh = AbstractMesh(parsed.mesh.shape(devices), AXES)
  for name, stream in parsed.streams.items():
    check_batch(name, stream.batch, mesh, stream.micro)
  rules = logical.check(mesh, parsed.rules)  # type: ignore[arg-type]
  batches = {name: examples(parsed, recipe, stream.batch, name) for name, stream in parsed.streams.items()}
  state, where, layout = _state(parsed, recipe, next(iter(batches.values())), mesh, rules)
  held = lambda part, at: sum(_bytes(at_leaf.shard_shape(x.shape), x.dtype) for x, at_leaf in _pairs(part, at))
  sizes = {
    "parameters": held(state.params, where.params),
    "optimiser": held(state.opt, where.opt),
    "ema": held(state.ema, where.ema) if state.ema is not None else 0,
    "extras": held(state.extras, where.extras),
    "gradients": held(layout.trained.live(state.params), layout.trained.live(where.params)),
  }
  ways = math.prod(mesh.shape[axis] for axis in logical.batch_axes(rules))
  saved, flops, due = 0, 0.0, _due(parsed, recipe)
  for (name, streams), share in due.items():
    phase, (part, micro) = recipe.phase(name), _part(parsed, recipe, streams.split("+"), ways)
    one, copied, work = _work(recipe, phase, state, part)
    saved = max(saved, one + copied // (mesh.shape["fsdp"] * mesh.shape["tensor"]))
    again = 4 / 3 if micro > 1 and isinstance(phase, Paired) else 1
    flops += share * work * micro * again
  form, loss = _loss(parsed, recipe, due, ways)
  sizes |= {"activations": saved, "loss": loss}
  found = Plan(
    mesh=dict(mesh.shape),
    parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(state.params)),
    bytes={name: int(value) for name, value in sizes.items() if value},
    flops=flops / mesh.shape["tensor"],
    loss=form,
    accelerator=accelerator,
  )
  _check(found)
  return found


def examples(parsed: Run, recipe: Recipe, rows: int, stream: str = "train") -> Batch:
  """Shapes of a batch as a stream of the recipe gives it.

  Raises:
    ValueError: a recipe that is not known here.
  """
  picture = lambda x: x.ndim == 4 and x.shape[-1] == 3
  of = lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), jnp.uint8 if picture(x) else x.dtype)
  label = jax.ShapeDtypeStruct((rows,), jnp.int32)
  shapes = {
    "clip": lambda: dict(zip(("image", "tokens"), map(of, recipe.model.inputs()), strict=True)),
    "imagebind": lambda: {name: of(x) for name, x in imagebind.inputs(parsed, recipe.model, stream).items()},
    "simclr": lambda: {
      **dict.fromkeys(simclr.pictures(parsed, stream), of(recipe.model.backbone.inputs()[0])),
      "label": label,
    },
    "flamingo": lambda: _packed(parsed, rows, stream),
    "classification": lambda: {"image": of(recipe.model.inputs()[0]), "label": label},
  }
  return config_lib.choose("recipe of a plan", parsed.recipe, shapes)()


def _packed(parsed: Run, rows: int, stream: str) -> Batch:
  """Shapes of rows as the transforms `pictures` and `pack` of a stream make them."""
  options = {step[0]: step[1:] for step in parsed.streams[stream].transforms}
  (size, *more), (length, media) = options["pictures"], options["pack"][:2]
  frames = more[0].get("frames", 1) if more else 1
  of = lambda dtype, *shape: jax.ShapeDtypeStruct((rows, *shape), dtype)
  texts = {name: of(jnp.int32, length) for name in ("tokens", "phi", "first", "segments", "positions")}
  images = of(jnp.uint8, media, frames, size, size, 3)
  return {**texts, "loss_mask": of(bool, length), "images": images, "media_mask": of(bool, media)}


def _state(parsed: Run, recipe: Recipe, batch: Batch, mesh: AbstractMesh, rules: Mapping[str, Any]) -> tuple:
  layout = states.Layout(recipe, batch)
  rate = schedules.build(parsed.schedule, parsed.steps)
  optimisers = {
    slot: Optimiser(parsed.optim, rate, layout.params, parsed.clip, cut=cut) for slot, cut in layout.splits.items()
  }
  options = dict(ema=parsed.ema is not None, frozen_dtype=jnp.bfloat16)
  make = lambda rng, batch: states.initialise(recipe, layout, optimisers, rng, batch, **options)
  state = jax.eval_shape(make, jax.random.key(0), batch)
  return state, states.shardings(state, layout, mesh, rules), layout  # type: ignore[arg-type]


def _due(parsed: Run, recipe: Recipe) -> dict[tuple[str, str], float]:
  """Each phase with a stream, or with streams that are merged ("a+b"), to how often it is due in a step on average."""
  steps = min(parsed.steps, HORIZON)
  due = (due_at(recipe, step, parsed.combine, parsed.shares) for step in range(steps))
  times = collections.Counter(one for pairs in due for one in pairs)
  return {one: count / steps for one, count in times.items()}


def _part(parsed: Run, recipe: Recipe, names: list[str], ways: int) -> tuple[Batch, int]:
  """Shapes of what one device differentiates at once of streams in one batch, and the number of such parts."""
  micro = merged_share({name: parsed.streams[name].share for name in names}, names).micro
  rows = {name: parsed.streams[name].batch // ways // micro for name in names}
  return jax.eval_shape(merge_batches, {name: examples(parsed, recipe, n, name) for name, n in rows.items()}), micro


def _work(recipe: Recipe, phase: Phase, state: states.State, batch: Batch) -> tuple[int, int, float]:
  """What differentiation keeps: bytes of one part of the batch, bytes of slices and casts of weights, which lie
  sharded as the weights do (what `stop_gradient` gives is no copy); and the FLOPs of forward and backward."""
  key = jax.random.key(0)
  batch = jax.eval_shape(recipe.prepare, batch, key)
  run: Any = phase.embed if isinstance(phase, Paired) else phase.loss

  def pull(params, extras, batch):
    """The outputs that have gradients, and the function back from them."""
    of = lambda params: [x for x in jax.tree.leaves(run(params, extras, batch, key)[0]) if _is_float(x)]
    return jax.vjp(of, params)

  def backward(*arguments):
    out, back = pull(*arguments)
    return back([jnp.ones_like(x) for x in out])

  arguments = state.params, state.extras, batch
  kept = jax.make_jaxpr(lambda *a: jax.tree.leaves(pull(*a)[1]))(*arguments).jaxpr
  given = {id(v) for v in (*kept.invars, *kept.constvars)}
  seen = {id(v) for v in kept.invars[-len(jax.tree.leaves(batch)) :]}
  for equation in kept.eqns:
    sources = {id(v) for v in equation.invars}
    out = {id(v) for v in equation.outvars}
    if equation.primitive.name == "stop_gradient" and sources <= given:
      given |= out
    if sources & seen:
      seen |= out
  sizes = {id(v): _bytes(v.aval.shape, v.aval.dtype) for v in kept.outvars if not hasattr(v, "val")}
  saved = sum(size for v, size in sizes.items() if v in seen and v not in given)
  copied = sum(size for v, size in sizes.items() if v not in seen and v not in given)
  return saved, copied, metrics.flops(jax.make_jaxpr(backward)(*arguments))


def _is_float(x: Any) -> bool:
  return jnp.issubdtype(x.dtype, jnp.inexact)


def _loss(parsed: Run, recipe: Recipe, due: Iterable[tuple[str, str]], ways: int) -> tuple[str | None, int]:
  """The form of a contrastive loss, and the bytes of its scores: two copies of what is held at once."""
  views, named = 2 if parsed.recipe == "simclr" else 1, getattr(parsed, "loss_implementation", None)
  found: list[tuple[int, str | None]] = [(0, None)]
  for phase, streams in due:
    if not isinstance(recipe.phase(phase), Paired):
      continue
    pairs = views * sum(parsed.streams[name].batch for name in streams.split("+"))
    form = named or ("plain" if parsed.recipe == "simclr" else choice.form(pairs, ways))
    scores = pairs**2 // ways if form == "plain" else min(choice.TILE, pairs) ** 2
    found.append((2 * 4 * scores, form))
  scores, form = max(found, key=lambda one: one[0])
  return form, scores


def _check(found: Plan) -> None:
  if found.accelerator is None:
    return
  memory = ACCELERATORS[found.accelerator].memory
  if found.total <= FIT * memory:
    return
  largest = max(found.bytes, key=lambda name: found.bytes[name])
  ways = {
    "activations": "towers with remat='full', a larger streams.NAME.micro, a smaller batch, or more devices",
    "loss": "loss_implementation = 'ring' or 'tiled', or a smaller batch",
  }.get(largest, "a larger mesh.fsdp or mesh.tensor, or more devices")
  raise ValueError(
    f"the run needs {_size(found.total)} on each {found.accelerator}, which has {_size(memory)} (a plan may fill "
    f"{FIT:.0%}); the largest part is {largest} with {_size(found.bytes[largest])}; legal ways out: {ways}, or "
    f"another accelerator than {found.accelerator}"
  )


def _pairs(part: Any, where: Any) -> list[tuple[Any, Any]]:
  return list(zip(jax.tree.leaves(part), jax.tree.leaves(where), strict=True))


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
  size = 8 if jnp.issubdtype(dtype, jax.dtypes.prng_key) else np.dtype(dtype).itemsize
  return math.prod(shape) * size


def _size(value: float) -> str:
  for unit in ("B", "KiB", "MiB", "GiB"):
    if value < 1024 or unit == "GiB":
      return f"{value:,.4g} {unit}"
    value /= 1024
  return ""
