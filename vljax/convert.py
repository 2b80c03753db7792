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
from vljax.checkpoint.load import load_metadata
from vljax.data import packages, tokenizers, vocabulary
from vljax.interop import Imported, language, language_models, torchvision
from vljax.layers.batch_norm import STATISTICS, variables
from vljax.models import decoder, resnet
from vljax.models.classifier import Classifier
from vljax.models.dual_encoder import FIELDS, DualEncoder, tower_config

DUAL = ("vljax", *interop.FORMATS)
"""Formats of dual encoders."""

TRUNK = "torchvision"
"""The format of a run's ResNet alone."""

FORMATS = (*DUAL, TRUNK, *language_models.FAMILIES)
"""The last ones are the kinds of Hugging Face's language models."""

TOLERANCE = 1e-5
"""How far features of source and target may lie apart; they are equal where both hold float32."""

TEXTS = ("a dog", "Two Cats,\n near_the-river! ", "&lt;b&gt; it's 3", "ΟΔΟΣ é", "", "dog " * 99)
"""What the tokenizers of source and target are compared on."""


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
    activation: of a dual encoder, where the source does not tell.
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
  if activation and format not in DUAL:
    raise ValueError(f"activation = {activation!r} of a dual encoder, which the format {format} does not hold")
  if not interop.published.is_published(source) and not packages.resolve(source).exists():
    raise FileNotFoundError(f"{source} does not exist")
  if format == TRUNK:
    report = _convert_trunk(source, target)
  elif format in language_models.FAMILIES:
    report = _convert_language(source, target, format, drop_tokenizer)
  else:
    report = _convert_dual(source, target, format, activation, drop_tokenizer)
  if report.difference > TOLERANCE:
    raise ValueError(f"{target} gives other features than {source}: they differ by {report.difference:.2g}")
  return report


def _convert_dual(
  source: epath.PathLike, target: epath.Path, format: str, activation: str | None, drop_tokenizer: bool
) -> Report:
  found = read(source, activation=activation)
  if drop_tokenizer:
    found = dataclasses.replace(found, tokenizer={})
  left_out = write(target, found, format)
  again = read(target, format=format)
  notes = (*found.notes, *left_out, *_other_ids(target, found, again))
  return Report(tree.count(found.params), compare(found, again), notes)


def _convert_trunk(source: epath.PathLike, target: epath.Path) -> Report:
  """The ResNet of what the hub opens, with the classifier of a run of classification where that sits on it."""
  bundle = hub.load(source)
  network = getattr(bundle.model, bundle.part) if isinstance(bundle, hub.Bundle) else bundle.model
  if not isinstance(network, resnet.ResNet):
    raise ValueError(
      f"{source} holds a {type(network).__name__}; the format {TRUNK} takes the ResNet of a run of simclr, "
      "classification or clip"
    )
  kept = ["classifier"] if isinstance(bundle.model, Classifier) and not bundle.model.tap else []
  weights = {**bundle.params[bundle.part], **{name: bundle.params[name] for name in kept}}
  weights[STATISTICS] = bundle.params[STATISTICS][bundle.part]
  torchvision.save(target, weights)
  config, again = torchvision.load(target)
  network = network.clone(dtype="float32", num_classes=config.get("num_classes"))
  image = np.random.default_rng(0).normal(size=network.inputs(4)[0].shape).astype(np.float32)
  pairs = (network, weights), (resnet.build(**config), again)
  a, b = (model.apply(variables(x), image) for model, x in pairs)
  (mean, std), rules = bundle.rules.constants, bundle.rules
  notes = [
    f"{target} tells no preprocessing: pictures have {bundle.size} px, mean {tuple(mean)}, deviation {tuple(std)}, "
    f"{rules.interpolation} interpolation, resize {rules.resize!r}"
  ]
  if network.stem == "cifar":
    notes.append(f"{target} has a conv1 of 3 x 3 with stride 1 and no pool, which torchvision's own classes have not")
  if more := sorted(bundle.params.keys() - {bundle.part, STATISTICS, *kept}):
    notes.append(f"{target} leaves out {', '.join(more)}")
  return Report(tree.count(weights), float(np.abs(a - b).max()), tuple(notes))


def _convert_language(source: epath.PathLike, target: epath.Path, family: str, drop_tokenizer: bool) -> Report:
  if not language.is_language(source):
    workdir = _workdir(source)
    why = (workdir and _no_dual_encoder(workdir)) or f"legal: {', '.join(DUAL)}"
    raise ValueError(f"{source} holds no language model, which the format {family} is for; {why}")
  found = language.load(source)
  if drop_tokenizer:
    found.tokenizer = {}
  left_out = language_models.save(target, found, family)
  again = language_models.load(target)
  models = [decoder.build(**tower.config) for tower in (found, again)]
  tokens = np.random.default_rng(0).integers(0, models[0].vocab, (4, min(16, models[0].length)))
  a, b = (m.apply(tower.variables, tokens) for m, tower in zip(models, (found, again), strict=True))
  return Report(tree.count(found.weights), float(np.abs(a - b).max()), (*found.notes, *left_out))


def read(source: epath.PathLike, *, format: str | None = None, activation: str | None = None) -> Imported:
  """A dual encoder of any format; for a workdir of ours, its newest weights (their average, if it keeps one).

  Raises:
    FileNotFoundError, ValueError: as `hub.load`, or no dual encoder; says what it is and which formats hold that.
  """
  path = _workdir(source)
  if path is None:
    if format is None and language.is_language(source):
      raise ValueError(f"{source} is a language model; legal formats: {', '.join(language_models.FAMILIES)}")
    source = source if interop.published.is_published(source) else epath.Path(source).expanduser()
    return interop.load(source, format=format, activation=activation)
  if why := _no_dual_encoder(path):
    raise ValueError(why)
  bundle = hub.load(path)
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


def _workdir(source: epath.PathLike) -> epath.Path | None:
  path = epath.Path(source).expanduser()
  return None if interop.published.is_published(source) or not (path / metadata_lib.FILE).exists() else path


def _no_dual_encoder(workdir: epath.Path) -> str | None:
  """Why a run's model is no dual encoder of pictures and texts, and which formats hold it; None if it is one."""
  config = load_metadata(workdir).config
  recipe = config.get("recipe")
  if recipe in ("simclr", "classification"):
    return f"{workdir} is a run of the recipe {recipe}, which knows no texts; legal formats: {TRUNK}"
  if recipe == "flamingo":
    return f"{workdir} is a run of the recipe flamingo, which is written in no other format"
  if recipe == "imagebind":
    more = ", ".join(sorted(config["modalities"]))
    return f"{workdir} encodes {more} besides pictures and texts, which no other format holds"
  return None


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


def _other_ids(target: epath.Path, found: Imported, again: Imported) -> list[str]:
  """What became of the tokenizer, in sentences: nothing where it comes back as it was."""
  if not found.tokenizer:
    return []
  if not again.tokenizer:
    return [f"{target} is read without the tokenizer of its source"]
  try:
    before, after = (tokenizers.build(**{**x.tokenizer, "strict": False})(TEXTS) for x in (found, again))
  except FileNotFoundError as error:
    return [f"{target}: its tokenizer was not compared: {error}"]
  other = [text for text, a, b in zip(TEXTS, before, after, strict=True) if not np.array_equal(a, b)]
  return [f"{target} is read with another tokenizer than its source: {other[0]!r} gets other ids"] if other else []


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
