"""SimCLR: two augmented views of each picture find each other (Chen et al. 2020, arXiv 2002.05709 and 2006.10029)."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vljax import parallel
from vljax.data import sources, tokenizers, transforms
from vljax.evaluate import mlp, probe, transformation
from vljax.evaluate.gallery import Gallery
from vljax.evaluate.schedule import Eval
from vljax.layers.batch_norm import STATISTICS, variables
from vljax.models import resnet
from vljax.models.projected import Projected, Projection
from vljax.objectives import classification, views
from vljax.ops import augment
from vljax.parallel import Axis
from vljax.train.recipe import Paired, Recipe
from vljax.train.run import Run
from vljax.types import Array, Batch, Float, Params, Rng, UInt8

OTHER = "image_other"
"""The field of what the second view is made of, where the host has cropped each picture twice (`two_crops`)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
  """The projection head: see `models.projected.Projection`."""

  kind: Literal["none", "linear", "nonlinear"] = "nonlinear"
  layers: int = 2
  dim: int = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """Held-out pictures, classified by their features.

  Attributes:
    kind: `knn`, the votes of 20 labelled neighbors, `linear`, a logistic regression on labelled pictures, `online`,
      the classifier that is trained beside (`config.classes`), or `transformation`, MLPs that tell what was done to
      pictures from their features, and from their projections (SimCLR, table 3).
    source: source of the pictures that are asked for.
    labelled: all but `online`: source of the pictures with known classes, or of those the MLPs learn from.
    choices: of `transformation`: what may be done to a picture, each a list of steps of vljax.ops.augment; an empty
      one leaves it as it is.
    shares: of `transformation`: how often each of the choices is drawn; empty: equally often.
    every: steps between evaluations; 0: at the end only.
    penalties: of `linear`, tried on a fifth of the labelled pictures; one alone is taken as it is.
    crop: the share of the short side that the middle square of a picture keeps (0.875: 224 px out of 256).
    batch: examples per call.
  """

  kind: Literal["knn", "linear", "online", "transformation"]
  source: str
  labelled: str | None = None
  choices: tuple[tuple[Any, ...], ...] = ()
  shares: tuple[float, ...] = ()
  every: int = 0
  penalties: tuple[float, ...] = probe.PENALTIES
  crop: float = 1.0
  batch: int = 256

  def __post_init__(self):
    if (self.kind == "online") != (self.labelled is None):
      found = f"an evaluation of kind {self.kind!r} has labelled = {self.labelled!r}"
      raise ValueError(f"{found}; online needs none, the others one")
    if len(self.choices) < 2 if self.kind == "transformation" else self.choices:
      found = f"an evaluation of kind {self.kind!r} has {len(self.choices)} choices"
      raise ValueError(f"{found}; transformation needs 2 or more, the others none")
    one_each = len(self.shares) == len(self.choices) and min(self.shares, default=0) > 0
    if self.shares and not (one_each and abs(sum(self.shares) - 1) < 1e-6):
      raise ValueError(f"shares = {self.shares} of {len(self.choices)} choices; legal: one above 0 for each, 1 in all")

  @property
  def odds(self) -> tuple[float, ...]:
    """How often each choice is drawn."""
    shares = self.shares or (1.0,) * len(self.choices)
    return tuple(share / sum(shares) for share in shares)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Run):
  """The keys of a `simclr` config, besides those of every run.

  Attributes:
    backbone: variant of vljax.models.resnet and its overrides.
    augment: steps of vljax.ops.augment that make a view of a picture, or of each of its two crops where the transforms
      of a stream have `two_crops`.
    augment_other: steps for the second view, if they differ (the pairs of figure 5 change one branch only).
    loss: name and arguments of a loss of vljax.objectives.views; `supervised_contrastive` (SupCon) needs the field
      `label` of the streams.
    classes: of a linear classifier that is trained beside on each view, without gradients to the backbone; 0: none.
      It needs the field `label`, too.
  """

  backbone: Mapping[str, Any]
  augment: tuple[Any, ...]
  augment_other: tuple[Any, ...] | None = None
  head: Head = Head()
  loss: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "nt_xent", "temperature": 0.1})
  classes: int = 0
  evals: Mapping[str, Evaluation] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    super().__post_init__()
    for name, evaluation in self.evals.items():
      if evaluation.kind == "online" and not self.classes:
        raise ValueError(f"config.evals.{name}.kind = 'online' asks the classifier, but config.classes = 0 has none")
    for name in self.streams:
      if OTHER in pictures(self, name):
        self._check_crops(name)

  def _check_crops(self, stream: str) -> None:
    """The second crop arrives, and neither is cropped again."""
    steps = self.streams[stream].transforms
    first = next(i for i, step in enumerate(steps) if "two_crops" in step[:1])
    for step in steps[first:]:
      if "keep" in step[:1] and OTHER not in step:
        raise ValueError(f"config.streams.{stream}.transforms: {tuple(step)} drops {OTHER!r}, which two_crops makes")
    for key, branch in (("augment", self.augment), ("augment_other", self.augment_other or ())):
      if any("random_resized_crop" in step[:1] for step in branch):
        found = f"config.{key} crops what two_crops of config.streams.{stream}.transforms has cropped"
        raise ValueError(f"{found}; legal: no random_resized_crop there")


def build(config: Config, tokenizer: tokenizers.Tokenizer | None = None) -> Recipe:
  """The recipe of a parsed config.

  Raises:
    ValueError: an unknown variant, override, augmentation or loss.
  """
  del tokenizer
  backbone = resnet.build(**config.backbone)
  model = Projected(backbone, Projection(**dataclasses.asdict(config.head)), config.classes)
  first = augment.build(config.augment)
  second = augment.build(config.augment if config.augment_other is None else config.augment_other)
  compare = views.loss(config.loss)
  labelled = bool(config.classes) or views.needs_labels(config.loss)

  def init(rng: Rng, batch: Batch) -> tuple[Params, dict]:
    check_fields(batch, labelled)
    size = backbone.image_size
    made = model.init(rng, jnp.zeros((1, size, size, 3)))
    return made["params"], {STATISTICS: made[STATISTICS]}

  def prepare(batch: Batch, rng: Rng) -> Batch:
    keys = jax.random.split(rng)
    image = unit_interval(batch["image"])
    other = unit_interval(batch[OTHER]) if OTHER in batch else image
    rest = {name: value for name, value in batch.items() if name != OTHER}
    return {**rest, "image": jnp.stack([first(keys[0], image), second(keys[1], other)], 1)}

  def embed(params, extras, batch, rng):
    del rng
    image = batch["image"]
    n = len(image)
    both = parallel.constrain(image.swapaxes(0, 1).reshape(-1, *image.shape[2:]), Axis.BATCH, None, None, None)
    (z, logits), new = model.apply({"params": params, **extras}, both, train=True, mutable=STATISTICS)
    out = {"a": z[:n], "b": z[n:]}
    if config.classes:
      out["logits"] = jnp.stack([logits[:n], logits[n:]], 1)
    if labelled:
      out["label"] = batch["label"]
    return out, new

  def join(params, z):
    del params
    loss, metrics = compare(z["a"], z["b"], z.get("label"))
    if not config.classes:
      return {"loss": loss}, metrics
    target = classification.targets(jnp.repeat(z["label"], views.VIEWS), config.classes)
    entropy, probed = classification.cross_entropy(z["logits"].reshape(-1, config.classes), target)
    return {"loss": loss, "probe": entropy / views.VIEWS}, {**metrics, "probe_accuracy": probed["top1"]}

  terms = ("loss", "probe") if config.classes else ("loss",)
  weights = lambda batch: dict.fromkeys(terms, len(batch["image"]))
  phase = Paired(name="simclr", embed=embed, join=join, weights=weights, streams=tuple(config.streams))
  encode = jax.jit(lambda weights, image: encode_image(model, weights, image))
  project = jax.jit(lambda weights, z: model.apply(variables(weights), z, method="project"))
  evals = {name: _evaluation(name, e, config.classes, backbone.image_size) for name, e in config.evals.items()}
  predict = {"encode_image": encode, "project": project}
  if config.classes:
    predict["logits"] = jax.jit(lambda weights, image: model.apply(variables(weights), see(image), method="logits"))
  return Recipe(init=init, phases=(phase,), prepare=prepare, predict=predict, evals=evals, model=model)


def pictures(config: Config, stream: str) -> tuple[str, ...]:
  """The fields of a stream that views are made of."""
  twice = any("two_crops" in step[:1] for step in config.streams[stream].transforms)
  return ("image", OTHER) if twice else ("image",)


def encode_image(model: Projected, weights: Params, image: UInt8[Array, "b h w 3"]) -> Float[Array, "b d"]:
  """The backbone's features of pictures of the model's size."""
  return model.apply(variables(weights), see(image), method="features")


def see(image: UInt8[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
  """Raw pictures as the backbone takes them, divided over the mesh."""
  return unit_interval(parallel.constrain(image, Axis.BATCH, None, None, None))


def unit_interval(image: Array) -> Float[Array, "..."]:
  """uint8 to [0, 1]: SimCLR normalizes no further."""
  return image.astype(jnp.float32) / 255


def meaning(config: Config, tokenizer: tokenizers.Tokenizer | None = None) -> dict[str, Any]:
  """What changes results silently: kept in the checkpoint, compared when it is opened or continued."""
  del tokenizer
  backbone = resnet.build(**config.backbone)
  return {"image": {"size": backbone.image_size, "stem": backbone.stem, "range": [0, 1]}}


def check_fields(batch: Batch, labelled: bool) -> None:
  """Check that a stream gives what the recipe reads.

  Raises:
    ValueError: naming the missing field.
  """
  for name in ("image", "label") if labelled else ("image",):
    if name not in batch:
      raise ValueError(
        f"the streams of simclr must give {name!r}; there is {', '.join(sorted(batch)) or 'nothing'} "
        "(see config.streams.NAME.transforms)"
      )


def _evaluation(name: str, evaluation: Evaluation, classes: int, size: int) -> Eval:
  try:
    changed = transformation.change(evaluation.choices, size)
  except ValueError as error:
    raise ValueError(f"config.evals.{name}.choices: {error}") from error

  @functools.cache
  def opened() -> list[Gallery]:
    transform = transforms.build([("preprocess", size, "shortest", "bicubic", evaluation.crop), ("keep", "image")])
    uris = [uri for uri in (evaluation.source, evaluation.labelled) if uri is not None]
    found = [Gallery(sources.open(uri), transform, None, evaluation.batch) for uri in uris]
    has = found[0].source.classes
    if evaluation.kind == "online" and len(has or ()) != classes:
      raise ValueError(f"config.classes = {classes}; the evaluation's source {evaluation.source} has {has}")
    if evaluation.kind == "transformation" and len(found[1].source) < mlp.FEWEST:
      few = f"{len(found[1].source)} pictures of {evaluation.labelled}"
      raise ValueError(f"config.evals.{name}: {few} are too few; legal: {mlp.FEWEST} or more")
    return found

  def run(predict: Mapping[str, Any], params: Params) -> dict[str, float]:
    asked, *labelled = opened()
    if evaluation.kind == "online":
      return asked.classify(predict, params)
    if evaluation.kind == "knn":
      return asked.knn(labelled[0], predict, params)
    if evaluation.kind == "transformation":
      return transformation.evaluate(asked, labelled[0], changed, evaluation.odds, predict, params)
    return asked.probe(labelled[0], predict, params, evaluation.penalties)

  return Eval(run, every=evaluation.every, open=opened)
