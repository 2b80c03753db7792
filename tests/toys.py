"""Toy recipes of every hard kind that later families need, each a few lines."""

import jax
import jax.numpy as jnp
import numpy as np

from vljax.train.optim import Group, Optimiser
from vljax.train.recipe import Paired, Phase, Recipe
from vljax.train.state import Layout, initialise
from vljax.train.step import Share, Step, due_at


def normal(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def dense(rng, n, m):
  return jax.random.normal(rng, (n, m)) / n**0.5


def run(
  recipe, batches, steps=3, *, shares=None, groups=((".*", Group()),), rate=1e-2, combine="accumulate", ema=None
):
  """Trains a recipe on fixed batches; returns the last state, all metrics and the step."""
  state, step = start(recipe, next(iter(batches.values())), shares=shares, groups=groups, rate=rate, ema=ema)
  history = []
  for i in range(steps):
    due = due_at(recipe, i, combine)
    state, metrics = step(state, batches, due)
    history.append(metrics)
  return state, history, step


def start(recipe, batch, *, shares=None, groups=((".*", Group()),), rate=1e-2, ema=None):
  layout = Layout(recipe, batch)
  optimisers = {
    slot: Optimiser(groups, lambda step: jnp.float32(rate), layout.params, cut=cut)
    for slot, cut in layout.splits.items()
  }
  state = initialise(recipe, layout, optimisers, jax.random.key(0), batch, ema=ema is not None)
  return state, Step(recipe, layout, optimisers, shares or {"train": Share()}, ema=ema)


def contrastive(dropout=0.0, statistics=False):
  """Two linear towers on one sphere, with dropout and, if asked, batch statistics."""

  def init(rng, batch):
    a, b = jax.random.split(rng)
    params = {"image": dense(a, 6, 4), "text": dense(b, 5, 4), "scale": jnp.ones(())}
    return params, {"mean": jnp.zeros(6)} if statistics else {}

  def embed(params, extras, batch, rng):
    image = batch["image"]
    if statistics:
      extras = {"mean": 0.9 * extras["mean"] + 0.1 * image.mean(0)}
    if dropout:
      image = image * jax.random.bernoulli(rng, 1 - dropout, image.shape) / (1 - dropout)
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    return (unit(image @ params["image"]), unit(batch["text"] @ params["text"])), extras

  def join(params, z):
    logits = jnp.exp(params["scale"]) * z[0] @ z[1].T
    nll = lambda x: -jnp.sum(jnp.diagonal(jax.nn.log_softmax(x)))
    return {"loss": (nll(logits) + nll(logits.T)) / 2}, {}

  return Recipe(init=init, phases=(Paired(name="clip", embed=embed, join=join),))


def masked():
  """Two terms with unlike denominators: masked tokens and masked regions."""

  def init(rng, batch):
    a, b = jax.random.split(rng)
    return {"tokens": dense(a, 6, 1), "regions": dense(b, 6, 1)}, {}

  def loss(params, extras, batch, rng):
    square = lambda w, mask: jnp.sum(mask * jnp.square(batch["x"] @ w - 1.0)[..., 0])
    terms = {"tokens": square(params["tokens"], batch["a"]), "regions": square(params["regions"], batch["b"])}
    return terms, {"seen": batch["a"].sum()}, extras

  weights = lambda batch: {"tokens": batch["a"].sum(), "regions": jnp.maximum(batch["b"].sum(), 1)}
  phase = Phase(name="mlm", loss=loss, weights=weights, coefs={"regions": 0.5})
  return Recipe(init=init, phases=(phase,))


def gan():
  """Generator and discriminator, lazy R1 in the discriminator's slot, a running mean in extras."""

  def init(rng, batch):
    a, b = jax.random.split(rng)
    return {"gen": {"w": dense(a, 3, 3)}, "dis": {"w": dense(b, 3, 1)}}, {"mean": jnp.zeros(3)}

  def fake(params, rng, like):
    return jax.random.normal(rng, like.shape) @ params["gen"]["w"]

  def g_loss(params, extras, batch, rng):
    x = fake(params, rng, batch["x"])
    extras = {"mean": 0.9 * extras["mean"] + 0.1 * jax.lax.stop_gradient(x.mean(0))}
    return {"loss": jnp.sum(jax.nn.softplus(-x @ params["dis"]["w"]))}, {}, extras

  def d_loss(params, extras, batch, rng):
    score = lambda x: x @ params["dis"]["w"]
    real, false = score(batch["x"]), score(fake(params, rng, batch["x"]))
    return {"loss": jnp.sum(jax.nn.softplus(false)) + jnp.sum(jax.nn.softplus(-real))}, {}, extras

  def r1(params, extras, batch, rng):
    slope = jax.grad(lambda x: jnp.sum(x @ params["dis"]["w"]))(batch["x"])
    return {"loss": jnp.sum(jnp.square(slope))}, {}, extras

  return Recipe(
    init=init,
    phases=(
      Phase(name="g", loss=g_loss, trains="gen/.*"),
      Phase(name="d", loss=d_loss, trains="dis/.*"),
      Phase(name="r1", loss=r1, trains="dis/.*", opt="d", every=4),
    ),
  )


def frozen_lm():
  """A frozen stack of layers under trained adapters, fed by streams of unlike shapes."""

  def init(rng, batch):
    a, b = jax.random.split(rng)
    return {"lm": {"blocks": {"w": jax.random.normal(a, (3, 4, 4)) / 2}}, "xattn": {"w": dense(b, 4, 4)}}, {}

  def loss(params, extras, batch, rng):
    x = batch["x"] @ params["xattn"]["w"]
    for w in params["lm"]["blocks"]["w"].astype(jnp.float32):
      x = jnp.tanh(x @ w)
    return {"loss": jnp.sum(jnp.square(x - 1.0).mean((1, 2)))}, {}, extras

  phase = Phase(name="lm", loss=loss, trains=".*xattn/.*", streams=("pairs", "video"))
  return Recipe(init=init, phases=(phase,))


def tasks():
  """One task drawn per step by a pure function of the step."""

  def init(rng, batch):
    return {"trunk": dense(rng, 4, 2)}, {}

  def loss(target):
    def of(params, extras, batch, rng):
      return {"loss": jnp.sum(jnp.square(batch["x"] @ params["trunk"] - target))}, {}, extras

    return of

  def due(step):
    return ((("mlm", "itm")[int(np.random.default_rng((7, step)).integers(2))], "train"),)

  phases = tuple(Phase(name=n, loss=loss(t), opt="adamw") for n, t in (("mlm", 1.0), ("itm", -1.0)))
  return Recipe(init=init, phases=phases, due=due)
