"""Checkpoints from any format to any other that can hold them, each conversion checked by running both."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Int

from vljax import config as config_lib
from vljax import hub, interop, recipes, tree
from vljax.checkpoint import Manager, Metadata
from vljax.checkpoint import metadata as metadata_lib
from vljax.data import tokenizers, vocabulary
from vljax.interop import Imported
from vljax.layers.batch_norm import variables
from vljax.models.dual_encoder import FIELDS, DualEncoder, tower_config

FORMATS = ("vljax", *interop.FORMATS)
TOLERANCE = 1e-5
"""How far unit features of source and target may lie apart; they are equal where both hold float32."""


@dataclasses.dataclass(frozen=True)
class Report:
  """What a conversion did.

  Attributes:
    parameters: their number.
    difference: the largest between the features that source and target give for the same random inputs.
    notes: what the source did not tell and what the target left out, in sentences.
  """

  parameters: int
  difference: float
  notes: tuple[str, ...]


def convert(
  source: epath.PathLike,
  target: epath.PathLike,
  format: str,
  *,
  activation: str | None = None,
  drop_tokenizer: bool = False,
) -> Report:
  """Read `source` (a workdir, a published checkpoint or name), write `target` in `format`, read it again, compare.

  Args:
    format: one of FORMATS.
    activation: where the source does not tell.
    drop_tokenizer: write the weights without the tokenizer, where the format cannot hold it.

  Raises:
    FileNotFoundError: no such source.
    FileExistsError: there is something at `target` already.
    ValueError: an unknown format, a broken source, or a format that cannot hold the model.
  """
  config_lib.choose("checkpoint format", format, dict.fromkeys(FORMATS))
  target = epath.Path(target).expanduser()
  if target.exists():
    raise FileExistsError(f"{target} exists already; name a new path")
  found = read(source, activation=activation)
  if drop_tokenizer:
    found = dataclasses.replace(found, tokenizer={})
  left_out = write(target, found, format)
  again = read(target, format=format)
  difference = compare(found, again)
  if difference > TOLERANCE:
    raise ValueError(f"{target} gives other features than {source}: they differ by {difference:.2g}")
  return Report(tree.count(found.params), difference, (*found.notes, *left_out))


def read(source: epath.PathLike, *, format: str | None = None, activation: str | None = None) -> Imported:
  """A checkpoint of any format; for a workdir of ours, its newest weights (their average, if it keeps one).

  Raises:
    FileNotFoundError, ValueError: as `hub.load`.
  """
  path = epath.Path(source).expanduser()
  published = isinstance(source, str) and interop.published.is_published(source)
  if published or not (path / metadata_lib.FILE).exists():
    return interop.load(source if published else path, format=format, activation=activation)
  bundle = hub.load(path)
  if not isinstance(bundle.model, DualEncoder):
    more = ", ".join(sorted(set(bundle.modalities) - {"image", "text"}))
    raise ValueError(f"{path} encodes {more} besides pictures and texts, which no other format holds")
  mean, std = bundle.rules.constants
  tokenizer = bundle.tokenizer
  return Imported(
    config=dict(
      image=tower_config(bundle.model.image),
      text=tower_config(bundle.model.text),
      **{name: getattr(bundle.model, name) for name in FIELDS},
    ),
    params=jax.tree.map(np.asarray, bundle.params),
    preprocess=dict(
      size=bundle.size,
      mean=tuple(mean),
      std=tuple(std),
      interpolation=bundle.rules.interpolation,
      resize_mode=bundle.rules.resize,
    ),
    tokenizer={} if tokenizer is None else _options(tokenizer, path / vocabulary.FOLDER),
    notes=list(bundle.notes),
  )


def write(target: epath.PathLike, found: Imported, format: str) -> list[str]:
  """Write a checkpoint in a format; returns what was left out, in sentences.

  Raises:
    ValueError: the format cannot hold it.
  """
  return _write_workdir(epath.Path(target), found) if format == "vljax" else interop.save(target, found, format)


def compare(a: Imported, b: Imported, batch: int = 4, seed: int = 0) -> float:
  """The largest difference between the unit features that two checkpoints give for the same random inputs."""
  model = a.model()
  rng = np.random.default_rng(seed)
  size = model.image.image_size
  image = rng.normal(size=(batch, size, size, 3)).astype(np.float32)
  tokens = _texts(model, rng, batch)
  features = [found.model().apply(variables(found.params), image, tokens) for found in (a, b)]
  return max(float(np.abs(x - y).max()) for x, y in zip(*features, strict=True))


def _texts(model: DualEncoder, rng: np.random.Generator, batch: int) -> Int[np.ndarray, "b t"]:
  """Random texts of all lengths, each ended by the id that the text tower looks for."""
  text = model.text
  end = text.eos_id if text.pool == "eos" else text.vocab - 1
  others = np.array([i for i in range(1, text.vocab - 1) if i != end], np.int32)
  tokens = rng.choice(others, (batch, text.length)).astype(np.int32)
  for row, last in zip(tokens, np.linspace(1, text.length - 1, batch).astype(int), strict=True):
    row[last], row[last + 1 :] = end, 0
  return tokens


def _write_workdir(target: epath.Path, found: Imported) -> list[str]:
  """A workdir as a run of the clip recipe leaves it, at step 0."""
  if not found.tokenizer:
    raise ValueError(f"{target}: the format vljax holds a tokenizer, and the source brings none: {found.notes}")
  tokenizer = tokenizers.build(**found.tokenizer)
  config = dict(
    recipe="clip",
    steps=1,
    streams={"train": {"source": "synthetic:pairs", "batch": 1}},
    **{name: found.config[name] for name in ("image", "text", "dim")},
    joint={name: found.config[name] for name in FIELDS if name in found.config and name != "dim"},
    **({"loss": "sigmoid"} if found.config.get("bias_init") is not None else {}),
    preprocess=dict(
      normalize=[list(found.preprocess["mean"]), list(found.preprocess["std"])],
      interpolation=found.preprocess["interpolation"],
      resize=found.preprocess["resize_mode"],
    ),
    tokenizer=dict(kind=tokenizer.kind, length=tokenizer.length),
  )
  metadata = Metadata(config=config, meaning=recipes.meaning(recipes.parse(config), tokenizer))
  split = variables(found.params)
  params, extras = split.pop("params"), split
  tokenizer.save(target / vocabulary.FOLDER)
  manager = Manager(target, metadata=metadata)
  manager.save(0, jax.tree.map(jnp.asarray, {"params": params, "extras": extras}), force=True)
  manager.close()
  return []


def _options(tokenizer: tokenizers.Tokenizer, folder: epath.Path) -> dict[str, Any]:
  return dict(kind=tokenizer.kind, length=tokenizer.length, path=str(folder), **tokenizer.options)
