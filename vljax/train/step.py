"""The one train step, and which of its phases are due."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from vljax import config, tree
from vljax.train import ema as averages
from vljax.train.gradients import gradients
from vljax.train.metrics import flops
from vljax.train.optim import Optimiser
from vljax.train.recipe import Due, Phase, Recipe
from vljax.train.state import Layout, State
from vljax.types import Array, Batch, Metrics, Params, Rng

Combine = Literal["accumulate", "merge", "round_robin"]


@dataclasses.dataclass(frozen=True)
class Share:
  """How one stream enters a step: the weight of its gradient, its micro-batches, and that it is in every n-th only."""

  weight: float = 1.0
  micro: int = 1
  every: int = 1


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled step and its floating-point operations on all devices together."""

  run: Callable[[State, dict[str, Batch]], tuple[State, Metrics]]
  flops: float


def due_at(recipe: Recipe, step: int, combine: Combine = "accumulate", shares: Mapping[str, Share] = {}) -> Due:
  """The (phase, stream) pairs of a step: the recipe's own rule, else `every` and `combine`.

  `accumulate` adds the gradients of all streams in each step, or of those whose `every` divides it; `round_robin`
  takes one stream after the other; `merge` makes one batch of all streams, written as the pair (phase, "a+b").
  (Flamingo, arXiv 2204.14198, table 11.)

  Raises:
    ValueError: the recipe's rule names an unknown phase or stream, or nothing is due.
  """
  due = _due(recipe, step, combine, shares)
  if not due:
    raise ValueError(f"no phase is due at step {step}")
  for name, streams in due:
    for stream in streams.split("+"):
      if stream not in recipe.phase(name).streams:
        raise ValueError(config.unknown(f"stream {stream!r} of phase {name!r}", stream, recipe.phase(name).streams))
  return due


def _due(recipe: Recipe, step: int, combine: Combine, shares: Mapping[str, Share]) -> Due:
  if recipe.due is not None:
    return recipe.due(step)
  due = []
  for phase in recipe.phases:
    if step % phase.every:
      continue
    if combine == "accumulate":
      now = (stream for stream in phase.streams if step % shares.get(stream, Share()).every == 0)
      due += [(phase.name, stream) for stream in now]
    elif combine == "merge":
      due.append((phase.name, "+".join(phase.streams)))
    else:
      due.append((phase.name, phase.streams[step // phase.every % len(phase.streams)]))
  return tuple(due)


class Step:
  """The jitted train step of a recipe: `step(state, batches, due) -> (state, metrics)`.

  `due` is static: one program is compiled per distinct set. If any gradient is not finite the update is skipped:
  params, optimiser, extras and average stay as they were and the counters move. The metric `first_bad` is the index
  of the first such leaf in `leaf_names(due)`, or -1.

  Args:
    recipe: what to train.
    layout: the recipe's layout.
    optimisers: slot name to optimiser.
    shares: stream name to its weight and micro-batches.
    ema: keeps an average of the trained leaves.
    shardings: of the state.
  """

  def __init__(
    self,
    recipe: Recipe,
    layout: Layout,
    optimisers: Mapping[str, Optimiser],
    shares: Mapping[str, Share],
    *,
    ema: averages.Ema | None = None,
    shardings: State | None = None,
  ):
    self.recipe, self.layout, self.optimisers = recipe, layout, dict(optimisers)
    self.shares, self.ema = dict(shares), ema
    self.order = {phase.name: i for i, phase in enumerate(recipe.phases)}
    out = (shardings, None) if shardings is not None else None
    self.jitted = jax.jit(self._step, static_argnames="due", donate_argnames="state", out_shardings=out)
    self.programs: dict[Due, Program] = {}

  def __call__(self, state: State, batches: Mapping[str, Batch], due: Due) -> tuple[State, Metrics]:
    if due in self.programs:
      return self.programs[due].run(state, dict(batches))
    return self.jitted(state, dict(batches), due=due)

  def compile(self, state: State, batches: Mapping[str, Batch], due: Due) -> Program:
    """Compile the program of this set of phases ahead, from arrays or shapes; later calls run it."""
    traced = self.jitted.trace(state, dict(batches), due=due)
    self.programs[due] = Program(traced.lower().compile(), flops(traced.jaxpr))
    return self.programs[due]

  def leaf_names(self, due: Due) -> list[str]:
    """The names that `first_bad` counts in: the live leaves of each phase that is due."""
    return [
      f"{name}: {leaf}"
      for name in dict.fromkeys(phase for phase, _ in due)
      for leaf in tree.flatten(self._cut(name).live(self.layout.params))
    ]

  def _cut(self, phase: str) -> tree.Split:
    return self.layout.splits[self.recipe.phase(phase).slot]

  def _step(self, state: State, batches: dict[str, Batch], due: Due) -> tuple[State, Metrics]:
    rng = jax.random.fold_in(state.rng, state.step)
    new, metrics, finite = state, {}, []
    prepared = {stream: self._prepared(stream, batches, rng) for stream in dict.fromkeys(s for _, s in due)}
    for name in dict.fromkeys(phase for phase, _ in due):
      streams = tuple(stream for phase, stream in due if phase == name)
      new, report, ok = self._phase(new, name, streams, prepared, rng)
      metrics |= report
      finite.append(ok)
    if self.ema is not None:
      seen = sum(jax.tree.leaves(batches[s])[0].shape[0] for s in _plain(due))
      decay = self.ema.decay(state.step, seen)
      new = new.replace(ema=averages.update(new.ema, self.layout.moving(new.params), decay))
    new, report = _guarded(state, new, jnp.concatenate(finite))
    return new.replace(step=state.step + 1), metrics | report

  def _phase(
    self, state: State, name: str, streams: tuple[str, ...], prepared: dict[str, tuple[Share, Batch]], rng: Rng
  ) -> tuple[State, Metrics, Array]:
    phase, cut = self.recipe.phase(name), self._cut(name)
    live = cut.live(state.params)
    live_seen, held_seen, pull = self._view(cut, live, cut.held(state.params))
    grads, extras, metrics = None, state.extras, {}
    for stream in streams:
      (share, batch), (_, key) = prepared[stream], self._keys(rng, phase, stream)
      result = gradients(phase, cut, live_seen, held_seen, extras, batch, key, share.micro)
      extras = result.extras
      weighted = optax.tree.scale(share.weight, result.grads)
      grads = weighted if grads is None else optax.tree.add(grads, weighted)
      metrics |= {f"{name}/{stream}/{k}": v for k, v in result.metrics.items()}
    grads = pull(grads)
    finite = jnp.stack([jnp.isfinite(jnp.sum(jnp.square(g.astype(jnp.float32)))) for g in jax.tree.leaves(grads)])
    slot = phase.slot
    updates, slots, report = self.optimisers[slot].update(grads, state.opt[slot], live, state.step)
    params = cut.merge(optax.apply_updates(live, updates), cut.held(state.params))
    metrics |= {f"{name}/{k}": v for k, v in report.items()}
    return state.replace(params=params, opt={**state.opt, slot: slots}, extras=extras), metrics, finite

  def _prepared(self, stream: str, batches: dict[str, Batch], rng: Rng) -> tuple[Share, Batch]:
    """What all phases see of a stream, or of merged ones: one draw, by the key of the first phase that reads it."""
    parts = stream.split("+")
    share = merged_share(self.shares, parts)
    batch = merge_batches({part: batches[part] for part in parts}) if len(parts) > 1 else batches[stream]
    reader = next(phase for phase in self.recipe.phases if parts[0] in phase.streams)
    return share, self.recipe.prepare(batch, self._keys(rng, reader, stream)[0])

  def _keys(self, rng: Rng, phase: Phase, stream: str) -> Rng:
    """The keys of a step's rng for `prepare` and for the loss."""
    rng = jax.random.fold_in(rng, self.order[phase.name])
    return jax.random.split(jax.random.fold_in(rng, phase.streams.index(stream.split("+")[0])))

  def _view(self, cut: tree.Split, live: Params, held: Params) -> tuple[Params, Params, Callable[[Params], Params]]:
    """What the phase's loss sees of both sides, and the way of its gradient back to the live leaves."""
    view = self.recipe.view
    if view is None:
      return live, held, lambda grads: grads
    live_seen, pullback = jax.vjp(lambda live: cut.live(view(cut.merge(live, held))), live)
    return live_seen, cut.held(view(cut.merge(live, held))), lambda grads: pullback(grads)[0]


def merged_share(shares: Mapping[str, Share], streams: list[str]) -> Share:
  """The share of several streams that are merged into one batch.

  Raises:
    ValueError: they have different shares; a merged batch has one.
  """
  found = {stream: shares.get(stream, Share()) for stream in streams}
  if len(set(found.values())) > 1:
    raise ValueError(f"combine = 'merge' makes one batch of {streams}: weight and micro must agree; found {found}")
  return next(iter(found.values()))


def merge_batches(batches: Mapping[str, Batch]) -> Batch:
  """One batch of several of equal structure.

  Raises:
    ValueError: naming the streams and the fields or shapes that differ.
  """
  describe = lambda batch: {k: (v.shape[1:], str(v.dtype)) for k, v in tree.flatten(batch).items()}
  (first, one), *rest = ((name, describe(batch)) for name, batch in batches.items())
  for name, other in rest:
    if one != other:
      raise ValueError(
        f"combine = 'merge' needs streams of equal structure; {first!r} has {one} and {name!r} has {other}"
      )
  return jax.tree.map(lambda *xs: jnp.concatenate(xs), *batches.values())


def _plain(due: Due) -> list[str]:
  return list(dict.fromkeys(part for _, stream in due for part in stream.split("+")))


def _guarded(old: State, new: State, finite: Array) -> tuple[State, Metrics]:
  ok = jnp.all(finite)
  keep = functools.partial(jax.tree.map, lambda n, o: n if n is o else jnp.where(ok, n, o))
  bad = jnp.where(ok, 0, 1)
  state = new.replace(
    params=keep(new.params, old.params),
    opt=keep(new.opt, old.opt),
    extras=keep(new.extras, old.extras),
    ema=keep(new.ema, old.ema) if new.ema is not None else None,
    skipped=old.skipped + bad,
    streak=(old.streak + bad) * bad,
  )
  first = jnp.where(ok, -1, jnp.argmax(~finite))
  return state, {"first_bad": first, "skipped": state.skipped, "streak": state.streak}
