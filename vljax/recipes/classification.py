"""Image classification: from scratch, on frozen features (linear evaluation), or fine-tuned from another run."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np

from vljax import config as config_lib
from vljax import parallel, tree
from vljax.data.tokenizers import Tokenizer
from vljax.evaluate import probe
from vljax.evaluate.gallery import Gallery
from vljax.evaluate.schedule import Eval
from vljax.layers import batch_norm
from vljax.models import fitting, nfnet, resnet, vit
from vljax.models.classifier import Classifier
from vljax.models.projected import Projection
from vljax.objectives import classification
from vljax.ops import augment
from vljax.ops.augment import mix
from vljax.parallel import Axis
from vljax.recipes import clip
from vljax.train.recipe import Phase, Recipe
from vljax.train.run import Run
from vljax.types import Array, Batch, Float, Params, Rng, UInt8

TOWERS: dict[str, Any] = {"resnet": resnet, "vit": vit, "nfnet": nfnet}
"""Image tower to its module, which has `build(variant, **overrides)`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """An evaluation on held-out labelled pictures.

  Attributes:
    kind: `top`, accuracy of the classifier; `knn` and `probe` (logistic regression), accuracy of its features.
    source: `kind:path?split=val...`.
    labelled: `knn` and `probe`: the source of the examples that vote or train.
    every: steps between evaluations; 0: at the end only.
    penalties: of `probe`, tried on a fifth of the labelled pictures; one alone is taken as it is.
    crop: the share of the short side that the middle square of a picture keeps (0.875: 224 px out of 256).
    batch: examples per call.
  """

  kind: Literal["top", "knn", "probe"] = "top"
  source: str
  labelled: str | None = None
  every: int = 0
  penalties: tuple[float, ...] = probe.PENALTIES
  crop: float = 1.0
  batch: int = 256

  def __post_init__(self):
    if (self.kind == "top") != (self.labelled is None):
      raise ValueError(f"an evaluation of kind {self.kind!r} has labelled = {self.labelled!r}; knn and probe need one")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Run):
  """The keys of a `classification` config, besides those of every run.

  Attributes:
    backbone: `tower` (a key of TOWERS, resnet if not given), its variant and overrides.
    classes: how many there are.
    head: fields of models.projected.Projection, of a run that this one starts from; None: no head.
    tap: so many layers of the head stay below the classifier (SimCLRv2: 1).
    trains: the parameters that are trained; `classifier/.*` is linear evaluation: features are as at evaluation.
    augment: steps of vljax.ops.augment on the device, after the stream's own.
    dropout: of the features, before the classifier.
    label_smoothing: share of each label that is spread over all classes.
    mixup, cutmix: alpha of each; 0 leaves it out. With both, each is done to half of the examples.
  """

  backbone: Mapping[str, Any]
  classes: int
  head: Mapping[str, Any] | None = None
  tap: int = 0
  trains: str = ".*"
  augment: tuple[Any, ...] = ()
  dropout: float = 0.0
  label_smoothing: float = 0.0
  mixup: float = 0.0
  cutmix: float = 0.0
  preprocess: clip.Preprocess = clip.Preprocess(normalize="imagenet")
  evals: Mapping[str, Evaluation] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    super().__post_init__()
    if self.classes < 2:
      raise ValueError(f"config.classes = {self.classes}; legal: 2 or more")
    for name, most in (("dropout", 1.0), ("label_smoothing", 1.0), ("mixup", np.inf), ("cutmix", np.inf)):
      if not 0 <= getattr(self, name) < most:
        raise ValueError(f"config.{name} = {getattr(self, name)}; legal: 0 or more, under {most:g}")
    if self.tap and self.head is None:
      raise ValueError(f"config.tap = {self.tap} layers of a projection head needs config.head, its fields")


def build(config: Config, tokenizer: Tokenizer | None = None) -> Recipe:
  """The recipe of a parsed config; a tokenizer is not used.

  Raises:
    ValueError: an unknown tower, variant, override or augmentation.
  """
  del tokenizer
  model = build_model(config)
  inner, view = nfnet.viewed(model, "backbone")
  functions = Functions(model, config.preprocess)
  steps = augment.build(config.augment)

  def init(rng: Rng, batch: Batch) -> tuple[Params, dict]:
    check_fields(batch)
    variables = dict(model.init(rng, *model.inputs()))
    return variables.pop("params"), variables

  def prepare(batch: Batch, rng: Rng) -> Batch:
    a, b = jax.random.split(rng)
    image = batch["image"].astype("float32")
    if config.augment:
      image = 255.0 * steps(a, image / 255.0)
    target = classification.targets(batch["label"], config.classes, config.label_smoothing)
    image, target = mix.mix(b, image, target, (config.mixup, config.cutmix))
    return {"image": image, "target": target}

  def loss(params, extras, batch, rng):
    image = config.preprocess.apply(batch["image"])
    variables = {"params": params, **extras}
    logits, extras = inner.apply(variables, image, train=True, mutable=list(extras), rngs={"dropout": rng})
    value, metrics = classification.cross_entropy(logits, batch["target"])
    return {"loss": value}, metrics, extras

  phase = Phase(name="classify", loss=loss, trains=config.trains, streams=tuple(config.streams))
  evals = {name: _evaluation(e, config, model) for name, e in config.evals.items()}
  predict = functions.predict()
  return Recipe(init=init, phases=(phase,), prepare=prepare, view=view, predict=predict, evals=evals, model=model)


def build_model(config: Config) -> Classifier:
  """The classifier of a config; frozen below the classifier if `trains` leaves all of that out."""
  tower = dict(config.backbone)
  name = tower.pop("tower", "resnet")
  backbone = config_lib.choose("tower of config.backbone", name, TOWERS).build(**tower)
  head = None if config.head is None else Projection(**config.head, dtype=backbone.dtype)
  model = Classifier(backbone, config.classes, head, config.tap, dropout=config.dropout)
  if config.trains == ".*":
    return model
  mask = tree.split(fitting.abstract(model), config.trains).mask
  live = any(np.any(leaf) for part, leaves in mask.items() if part != "classifier" for leaf in jax.tree.leaves(leaves))
  return model if live else model.clone(frozen=True)


def meaning(config: Config, tokenizer: Tokenizer | None = None) -> dict[str, Any]:
  """What changes results silently: kept in the checkpoint, compared when it is opened or continued."""
  del tokenizer
  backbone, preprocess = build_model(config).backbone, config.preprocess
  mean, std = preprocess.constants
  return {
    "image": {"activation": backbone.activation, "pool": backbone.pool, "size": backbone.image_size},
    "preprocess": {"mean": mean, "std": std, "interpolation": preprocess.interpolation, "resize": preprocess.resize},
    "classifier": {"classes": config.classes, "tap": config.tap},
  }


class Functions:
  """A classifier as functions of raw pictures; `params` hold the batch statistics, too."""

  def __init__(self, model: Classifier, preprocess: clip.Preprocess):
    self.model, self.preprocess = model, preprocess

  def predict(self) -> dict[str, Any]:
    """`encode_image(params, image)`: features; `logits(params, image)`."""
    return {"encode_image": jax.jit(self.encode_image), "logits": jax.jit(self.logits)}

  def encode_image(self, params: Params, image: UInt8[Array, "b h w c"]) -> Float[Array, "b d"]:
    return self.model.apply(batch_norm.variables(params), self._input(image), method="features")

  def logits(self, params: Params, image: UInt8[Array, "b h w c"]) -> Float[Array, "b k"]:
    return self.model.apply(batch_norm.variables(params), self._input(image))

  def _input(self, image: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    return self.preprocess.apply(parallel.constrain(image, Axis.BATCH, None, None, None))


def check_fields(batch: Batch) -> None:
  """Check that a stream gives pictures and labels.

  Raises:
    ValueError: naming the missing field.
  """
  for name in ("image", "label"):
    if name not in batch:
      raise ValueError(
        f"the streams of classification must give the fields image and label; there is no {name!r} among "
        f"{', '.join(sorted(batch)) or 'none'} (see config.streams.NAME.transforms; a source without classes has no "
        "label)"
      )


def _evaluation(evaluation: Evaluation, config: Config, model: Classifier) -> Eval:
  @functools.cache
  def opened() -> list[Gallery]:
    uris = [uri for uri in (evaluation.source, evaluation.labelled) if uri is not None]
    size = model.backbone.image_size
    found = [clip.gallery(uri, config.preprocess, size, None, evaluation.batch, evaluation.crop) for uri in uris]
    for uri, part in zip(uris, found, strict=True):
      if len(part.source.classes or ()) != config.classes:
        raise ValueError(f"config.classes = {config.classes}; the evaluation's source {uri} has {part.source.classes}")
    return found

  def run(predict: Mapping[str, Any], params: Params) -> dict[str, float]:
    held_out, *labelled = opened()
    if evaluation.kind == "top":
      return held_out.classify(predict, params)
    if evaluation.kind == "knn":
      return held_out.knn(labelled[0], predict, params)
    return held_out.probe(labelled[0], predict, params, evaluation.penalties)

  return Eval(run, every=evaluation.every, open=opened)
