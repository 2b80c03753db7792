"""Optimisers by name: which leaves get which rule, learning rate, weight decay and clipping.

A group is a regex over unstacked parameter names with its hyper-parameters; the first match wins. Layers of one stack
may fall into groups of different learning rate, decay or clipping (they become vectors over the layer axis) but share
the update rule, since their slots are stacked too. Schedules read the step of the run, never an optimiser's count.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import BFloat16, Float

from vljax import config, tree
from vljax.train import agc as adaptive
from vljax.types import Array, Metrics, Params, Rng


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
  """An update rule: what distinguishes optimiser slots.

  `lars` (arXiv 1708.03888) as SimCLR uses it: with g' = g + wd * w, the momentum buffer takes
  lr * eta * |w| / |g'| * g' (lr * g' if either norm is 0) and is subtracted. Since the learning rate is inside the
  buffer, old gradients keep the rate of their own step. `b1` is the momentum; layers of a stack have their own norms.

  `lamb` (arXiv 1904.00962) is AdamW whose update, the decay in it, is multiplied by |w| / |update| of its layer (by 1
  if either norm is 0).

  Attributes:
    mu_dtype: what the first moment is kept in.
    nu_dtype: what AdamW's second moment is kept in; bfloat16 is rounded at random, see `narrow`.
    eta: the trust coefficient of `lars`; None leaves out the norms (SimCLR: of biases and batch norms, with wd = 0).
  """

  name: Literal["adamw", "lion", "sgd", "lars", "lamb"] = "adamw"
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  nesterov: bool = False
  eta: float | None = 0.001
  mu_dtype: Literal["float32", "bfloat16"] | None = None
  nu_dtype: Literal["float32", "bfloat16"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group(Rule):
  """The hyper-parameters of the leaves that one regex matches.

  Attributes:
    lr: multiplies the schedule.
    wd: decoupled weight decay (arXiv 1711.05101), multiplied by the learning rate; of `lars` added to the gradient.
    clip: the greatest global norm of this group's gradient; None does not clip.
    agc: the greatest norm of a unit's gradient over the unit's own (train.agc), after `clip`; None does not clip.
    agc_eps: the least norm that a unit is taken to have.
    agc_vectors: whether a vector is one unit, `whole`, or each `element` is.
  """

  lr: float = 1.0
  wd: float = 0.0
  clip: float | None = None
  agc: float | None = None
  agc_eps: float = 1e-3
  agc_vectors: adaptive.Vectors = "whole"

  @property
  def rule(self) -> Rule:
    return Rule(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Rule)})

  def check(self, where: str) -> None:
    """Raise unless the numbers of the group at the key `where` are legal."""
    factors = dict.fromkeys(("lr", "wd"), "finite, 0 or more")
    betas = dict.fromkeys(("b1", "b2"), "0 or more, below 1")
    least = dict.fromkeys(("eps", "agc_eps"), "finite, above 0")
    limits = dict.fromkeys(("clip", "agc", "eta"), "above 0, or None")
    config.check_ranges(where, self, **factors, **betas, **least, **limits)


Groups = tuple[tuple[str, Group], ...]


class Optimiser:
  """The optimiser of one slot: its groups resolved against the names of the live leaves.

  Args:
    groups: (regex, group) pairs, first match wins.
    rate: step -> learning rate.
    params: all parameters, arrays or shapes.
    clip: the greatest global norm over all live leaves, before the groups' own.
    rates: unstacked name to a further factor of its learning rate.
    cut: whose live side is trained; None trains all.

  Raises:
    ValueError: a live leaf that no group matches, or layers of one stack under different rules.
  """

  def __init__(
    self,
    groups: Groups,
    rate: Callable[[Array], Array],
    params: Params,
    clip: float | None = None,
    rates: Callable[[str], float] | None = None,
    cut: tree.Split | None = None,
  ):
    self.groups, self.rate, self.clip = groups, rate, clip
    cut = cut or tree.split(params, ".*")
    factor = rates or (lambda name: 1.0)
    self.index = cut.per_layer(params, lambda name: match(groups, name))
    self.lr = cut.per_layer(params, lambda name: np.float32(groups[match(groups, name)][1].lr * factor(name)))
    self.transform = self._transform(cut.live(params))

  def _transform(self, live: Params) -> optax.GradientTransformation:
    labels, rules = {}, {}
    for name, index in tree.flatten(self.index).items():
      found = {self.groups[i][1].rule for i in np.atleast_1d(index)}
      if len(found) > 1:
        raise ValueError(f"the layers of {name!r} fall under different update rules: {sorted(map(repr, found))}")
      rule = found.pop()
      labels[name] = rules.setdefault(rule, str(len(rules)))
    if len(rules) == 1:
      return transformation(next(iter(rules)))
    by_name = jax.tree.map_with_path(lambda keys, _: labels[tree.path(keys)], live)
    return optax.partition({label: transformation(rule) for rule, label in rules.items()}, by_name)

  def init(self, live: Params) -> Any:
    """Fresh slots for the live leaves."""
    return self.transform.init(live)

  def update(self, grads: Params, slots: Any, live: Params, step: Array) -> tuple[Params, Any, Metrics]:
    """The updates to add to the live leaves, the new slots, and the norms and the rate of this step."""
    norm = optax.tree.norm(grads)
    if self.clip is not None:
      grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, self.clip / jnp.maximum(norm, 1e-12)), grads)
    grads = self._clip_units(self._clip_groups(grads), live)
    rate = self.rate(step)
    grads = jax.tree.map(lambda g, p, i, lr: self._adapt(g, p, i, rate * lr), grads, live, self.index, self.lr)
    updates, slots = self.transform.update(grads, slots, live)
    updates = jax.tree.map(lambda u, p, i, lr: self._scale(u, p, i, rate, lr), updates, live, self.index, self.lr)
    return updates, slots, {"grad_norm": norm, "lr": rate}

  def _adapt(self, grad: Array, leaf: Array, index: Any, scale: Array) -> Array:
    """What the buffer of `lars` takes, layer by layer; other rules take the gradient.

    Args:
      scale: the learning rate, one or one per layer.
    """
    rule = self._rule(index)
    if rule.name != "lars":
      return grad
    grad = grad + tree.broadcast_layers(self._values("wd")[index], leaf) * leaf
    if rule.eta is not None:
      scale *= _trust(leaf, grad, index, rule.eta)
    return (grad * _spread(scale, leaf)).astype(grad.dtype)

  def _rule(self, index: Any) -> Rule:
    return self.groups[int(np.atleast_1d(index)[0])][1].rule

  def _scale(self, update: Array, leaf: Array, index: Any, rate: Array, lr: Any) -> Array:
    if self._rule(index).name == "lars":
      return -update.astype(leaf.dtype)
    wd = tree.broadcast_layers(self._values("wd")[index], leaf)
    decayed = update + wd * leaf if np.any(wd) else update
    if self._rule(index).name == "lamb":
      decayed = decayed * _spread(_trust(leaf, decayed, index), leaf)
    return (-rate * tree.broadcast_layers(lr, leaf) * decayed).astype(leaf.dtype)

  def _clip_groups(self, grads: Params) -> Params:
    limits = [group.clip for _, group in self.groups]
    if all(limit is None for limit in limits):
      return grads
    squares = jnp.zeros(len(limits))
    for g, index in zip(jax.tree.leaves(grads), jax.tree.leaves(self.index), strict=True):
      axes = tuple(range(np.ndim(index), g.ndim))
      squares = squares.at[index].add(jnp.sum(jnp.square(g.astype(jnp.float32)), axes))
    limit = np.array([np.inf if x is None else x for x in limits], np.float32)
    factor = jnp.minimum(1.0, limit / jnp.maximum(jnp.sqrt(squares), 1e-12))
    shaped = lambda f, g: f.reshape(f.shape + (1,) * (g.ndim - f.ndim))
    return jax.tree.map(lambda g, i: g * shaped(factor[i], g), grads, self.index)

  def _clip_units(self, grads: Params, live: Params) -> Params:
    limits = np.array([np.inf if group.agc is None else group.agc for _, group in self.groups], np.float32)
    eps = self._values("agc_eps")

    def clip(keys: tuple, grad: Array, leaf: Array, index: Any) -> Array:
      if np.all(np.isinf(limits[index])):
        return grad
      vectors = {self.groups[i][1].agc_vectors for i in np.atleast_1d(index)}
      if len(vectors) > 1:
        raise ValueError(f"the layers of {tree.path(keys)!r} fall under different agc_vectors: {sorted(vectors)}")
      axes = adaptive.unit_axes(tree.path(keys), leaf.ndim - np.ndim(index), vectors.pop())
      return adaptive.clip(grad, leaf, axes, limits[index], eps[index])

    return jax.tree.map_with_path(clip, grads, live, self.index)

  def _values(self, field: str) -> np.ndarray:
    return np.array([getattr(group, field) for _, group in self.groups], np.float32)

  def table(self, live: Params) -> list[tuple[str, str, str]]:
    """(regex, hyper-parameters, what it got) per group, for the run's first lines."""
    got: dict[int, list[int]] = {i: [0, 0] for i in range(len(self.groups))}
    for leaf, index in zip(jax.tree.leaves(live), jax.tree.leaves(self.index), strict=True):
      each = np.atleast_1d(index)
      for i in each:
        got[int(i)][0] += 1
        got[int(i)][1] += int(np.prod(leaf.shape)) // len(each)
    rows = []
    for i, (regex, group) in enumerate(self.groups):
      clips = [f" {name} {limit:g}" for name in ("clip", "agc") if (limit := getattr(group, name)) is not None]
      rule = f"{group.name} lr x{group.lr:g} wd {group.wd:g}{''.join(clips)}"
      rows.append((regex, rule, f"{got[i][0]} leaves, {got[i][1]:,}"))
    return rows


def _trust(leaf: Array, update: Array, index: Any, eta: float = 1.0) -> Array:
  """eta * |leaf| / |update|, of the leaf or of each of its layers; 1 where either is 0."""
  axes = tuple(range(np.ndim(index), leaf.ndim))
  norm = lambda x: jnp.sqrt(jnp.sum(jnp.square(x.astype(jnp.float32)), axes))
  weight, slope = norm(leaf), norm(update)
  return jnp.where((weight > 0) & (slope > 0), eta * weight / jnp.where(slope > 0, slope, 1.0), 1.0)


def _spread(scale: Any, leaf: Array) -> Array:
  """One number, or one per layer, shaped to multiply the leaf."""
  scale = jnp.asarray(scale)
  return scale.reshape(scale.shape + (1,) * (leaf.ndim - scale.ndim))


def match(groups: Groups, name: str) -> int:
  """The index of the first group whose regex fully matches `name`.

  Raises:
    ValueError: none does, or a regex is none.
  """
  for i, (regex, _) in enumerate(groups):
    if tree.pattern(regex, "config.optim").fullmatch(name):
      return i
  raise ValueError(f"no group of config.optim matches {name!r}; its regexes: {', '.join(r for r, _ in groups)}")


def check(groups: Groups, names: Sequence[str]) -> None:
  """Raise if a group is the first match of no name: a regex with a typing error.

  Raises:
    ValueError: naming the regex.
  """
  used = {match(groups, name) for name in names}
  for i, (regex, _) in enumerate(groups):
    if i not in used:
      raise ValueError(f"config.optim: the regex {regex!r} is the first match of no trained parameter")


def transformation(rule: Rule) -> optax.GradientTransformation:
  """The optax transformation of a rule, without learning rate and decay."""
  if rule.name in ("adamw", "lamb"):
    adam = optax.scale_by_adam(rule.b1, rule.b2, rule.eps, mu_dtype=rule.mu_dtype, nesterov=rule.nesterov)
    return narrow(adam) if rule.nu_dtype == "bfloat16" else adam
  if rule.name == "lion":
    return optax.scale_by_lion(rule.b1, rule.b2, mu_dtype=rule.mu_dtype)
  return optax.trace(rule.b1, nesterov=rule.nesterov, accumulator_dtype=rule.mu_dtype)


def narrow(adam: optax.GradientTransformation) -> optax.GradientTransformation:
  """Adam whose second moment is kept in bfloat16, rounded up or down at random so that its mean is right.

  Rounded to the nearest, a moment that moves by 1 - b2 = 0.1 % a step would stand still, since neighbors of bfloat16
  lie 0.4 to 0.8 % apart. CLIP's training kept both moments in half precision (arXiv 2103.00020, section 2.5). The
  update of a step is computed before rounding. The same step of the same run rounds the same way.
  """

  def store(state: Any, key: Any) -> Any:
    leaves, structure = jax.tree.flatten(state.nu)
    leaves = [round_at_random(x, jax.random.fold_in(key, i)) for i, x in enumerate(leaves)]
    return state._replace(nu=structure.unflatten(leaves))

  def init(params: Params) -> Any:
    state: Any = adam.init(params)
    return state._replace(nu=optax.tree.cast(state.nu, jnp.bfloat16))

  def update(grads: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
    new: Any
    updates, new = adam.update(grads, state._replace(nu=optax.tree.cast(state.nu, jnp.float32)), params)
    return updates, store(new, jax.random.fold_in(jax.random.key(0), new.count))

  return optax.GradientTransformation(init, update)


def round_at_random(x: Float[Array, "*n"], key: Rng) -> BFloat16[Array, "*n"]:
  """x in bfloat16: the neighbor below or above, each with the probability that makes the mean x."""
  bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
  bits += jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
  return jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)
