"""Gradients of one phase on one batch, exact for any number of micro-batches."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vljax import parallel, tree
from vljax.layers.batch_norm import STATISTICS
from vljax.parallel import Axis
from vljax.train.recipe import Paired, Phase, Terms
from vljax.types import Batch, Extras, Metrics, Params, Rng


class Result(NamedTuple):
  """The gradient of the live leaves, the scalars to report (with `loss`), and the new extras."""

  grads: Params
  metrics: Metrics
  extras: Extras


def gradients(
  phase: Phase, cut: tree.Split, live: Params, held: Params, extras: Extras, batch: Batch, rng: Rng, micro: int = 1
) -> Result:
  """d/d live of sum over terms of coef * sum / weight.

  Args:
    phase: the objective.
    cut: which leaves are live; `live` and `held` are its two sides.
    batch: the whole batch; with `micro` > 1 it is cut in that many parts, which are run one after the other.

  Raises:
    ValueError: the batch does not divide, a term has no weight, a coefficient no term, or micro-batches change batch
      statistics or, in a Paired phase, any extras.
  """
  size = jax.tree.leaves(batch)[0].shape[0]
  if size % micro:
    raise ValueError(f"phase {phase.name!r}: a batch of {size} does not divide into micro = {micro} parts")
  weights = phase.weights(batch)
  run = _paired if isinstance(phase, Paired) else _summed
  grads, terms, metrics, extras = run(phase, weights, cut, live, held, extras, batch, rng, micro)
  metrics = {**metrics, **{name: value / weights[name] for name, value in terms.items()}}
  metrics["loss"] = total(phase, terms, weights)
  return Result(grads, metrics, extras)


def total(phase: Phase, terms: Terms, weights: Terms) -> Any:
  """The number that is minimised: sum over terms of coef * sum / weight."""
  for name in terms:
    if name not in weights:
      raise ValueError(f"phase {phase.name!r}: its loss gives the term {name!r}; its weights give {sorted(weights)}")
  if unknown := sorted(set(phase.coefs) - set(terms)):
    raise ValueError(f"phase {phase.name!r}: coefs name {unknown}; its loss gives {sorted(terms)}")
  return sum(phase.coefs.get(name, 1.0) * value / weights[name] for name, value in terms.items())


def _summed(phase, weights, cut, live, held, extras, batch, rng, micro):
  def run(live, extras, part, rng):
    terms, metrics, new = phase.loss(cut.merge(live, held), extras, part, rng)
    if micro > 1:
      _refuse(phase, [name for name in _changed(extras, new) if STATISTICS in name.split("/")])
    return total(phase, terms, weights), (terms, metrics, new)

  grad = jax.grad(run, has_aux=True)
  if micro == 1:
    grads, (terms, metrics, extras) = grad(live, extras, batch, rng)
    return grads, terms, metrics, extras

  def body(carry, xs):
    acc, extras = carry
    grads, (terms, metrics, extras) = grad(live, extras, *xs)
    return (jax.tree.map(jnp.add, acc, grads), extras), (terms, metrics)

  start = jax.tree.map(jnp.zeros_like, live), extras
  (grads, extras), (terms, metrics) = jax.lax.scan(body, start, (chunks(batch, micro), jax.random.split(rng, micro)))
  return grads, jax.tree.map(lambda x: x.sum(0), terms), jax.tree.map(lambda x: x.mean(0), metrics), extras


def _paired(phase, weights, cut, live, held, extras, batch, rng, micro):
  def embed(live, part, rng):
    return phase.embed(cut.merge(live, held), extras, part, rng)

  def join(live, z):
    terms, metrics = phase.join(cut.merge(live, held), z)
    return total(phase, terms, weights), (terms, metrics)

  if micro == 1:

    def run(live):
      z, new = embed(live, batch, rng)
      value, (terms, metrics) = join(live, z)
      return value, (terms, metrics, new)

    grads, (terms, metrics, extras) = jax.grad(run, has_aux=True)(live)
    return grads, terms, metrics, extras

  def only_z(live, part, rng):
    z, new = embed(live, part, rng)
    _refuse(phase, _changed(extras, new))
    return z

  parts = chunks(batch, micro), jax.random.split(rng, micro)
  _, z = jax.lax.scan(lambda _, xs: (None, only_z(live, *xs)), None, parts)
  (grads, dz), (terms, metrics) = jax.grad(join, argnums=(0, 1), has_aux=True)(live, whole(z))

  def back(acc, xs):
    *part, cotangent = xs
    _, pull = jax.vjp(lambda live: only_z(live, *part), live)
    return jax.tree.map(jnp.add, acc, *pull(cotangent)), None

  grads, _ = jax.lax.scan(back, grads, (*parts, chunks(dz, micro)))
  return grads, terms, metrics, extras


def chunks(batch: Any, n: int) -> Any:
  """[b, ...] -> [n, b / n, ...]: part j holds the rows j, n + j, ..., so that each device keeps its own rows."""

  def cut(x):
    x = x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1)
    return parallel.constrain(x, None, Axis.BATCH, *(None,) * (x.ndim - 2))

  return jax.tree.map(cut, batch)


def whole(parts: Any) -> Any:
  """The inverse of `chunks`."""
  return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), parts)


def _changed(before: Extras, after: Extras) -> list[str]:
  """The names of the leaves that are not passed on as they came."""
  old = tree.flatten(before)
  return [name for name, leaf in tree.flatten(after).items() if old.get(name) is not leaf]


def _refuse(phase: Phase, statistics: list[str]) -> None:
  if statistics:
    raise ValueError(
      f"phase {phase.name!r}: {statistics[0]!r} is a statistic of the whole batch, which micro-batches cannot give; "
      "set micro = 1 for its stream, or use a model without batch statistics"
    )
