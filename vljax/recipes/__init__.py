"""One file per paper: where model, objective and data meet."""

import importlib
from typing import Any

from vljax import config
from vljax.data.tokenizers import Tokenizer
from vljax.evaluate import schedule
from vljax.train.recipe import Recipe
from vljax.train.run import Run
from vljax.types import Params

RECIPES = {
  "classification": "vljax.recipes.classification",
  "clip": "vljax.recipes.clip",
  "flamingo": "vljax.recipes.flamingo",
  "imagebind": "vljax.recipes.imagebind",
  "simclr": "vljax.recipes.simclr",
}
"""Recipe name to its module, which has the schema `Config` and `build(config, tokenizer) -> Recipe`."""


def parse(raw: Any) -> Run:
  """The recipe's own schema of a raw config.

  Raises:
    ValueError: an unknown recipe, key or value; the nearest legal name is given.
  """
  if isinstance(raw, Run):
    return raw
  if "recipe" not in raw:
    raise ValueError(f"config has no key 'recipe'; legal values: {', '.join(sorted(RECIPES))}")
  return config.parse(raw, _module(raw["recipe"]).Config)


def build(parsed: Run, tokenizer: Tokenizer | None = None) -> Recipe:
  """The recipe of a parsed config; without a tokenizer it has no evaluations."""
  return _module(parsed.recipe).build(parsed, tokenizer)


def meaning(parsed: Run, tokenizer: Tokenizer | None = None) -> dict[str, Any]:
  """What changes results silently, for the checkpoint to remember."""
  return _module(parsed.recipe).meaning(parsed, tokenizer)


def evaluate(raw: Any, tokenizer: Tokenizer | None, params: Params) -> dict[str, float]:
  """What the evaluations of a run's config report about parameters.

  Raises:
    ValueError: it has none.
  """
  if not raw.get("evals"):
    raise ValueError("this checkpoint brings no evaluations of its own: name a source")
  recipe = build(parse(raw), tokenizer)
  return schedule.run(recipe.evals, recipe.predict, params)


def _module(name: str) -> Any:
  return importlib.import_module(config.choose("recipe", name, RECIPES))
