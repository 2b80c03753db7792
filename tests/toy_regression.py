"""A recipe of one number, trained in milliseconds: for what drives whole runs."""

import dataclasses

import jax.numpy as jnp

from vljax.evaluate.schedule import Eval
from vljax.train.recipe import Phase, Recipe
from vljax.train.run import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Run):
  """`w` is pulled to `target`, and may be made to overflow."""

  target: float = 0.0
  scale: float = 1.0


def build(config, tokenizer=None):
  def init(rng, batch):
    return {"w": jnp.zeros(1)}, {}

  def loss(params, extras, batch, rng):
    error = config.scale * (params["w"] - config.target)
    return {"loss": jnp.square(error).sum() * batch["image"].shape[0]}, {"w": params["w"][0]}, extras

  report = Eval(lambda predict, params: {"top1": params["w"][0] / 100})
  return Recipe(init=init, phases=(Phase(name="fit", loss=loss),), evals={"probe": report})


def meaning(config, tokenizer=None):
  return {}
