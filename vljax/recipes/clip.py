"""CLIP: image and text towers trained to agree on their pairs (Radford et al. 2021, arXiv 2103.00020)."""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vljax import parallel, tree
from vljax.data import mean_std, sources, tokenizers, transforms, vocabulary
from vljax.evaluate import prompts
from vljax.evaluate.gallery import FeatureGallery, Gallery
from vljax.evaluate.schedule import Eval
from vljax.layers.batch_norm import STATISTICS, variables
from vljax.models import dual_encoder, fitting, groups, nfnet
from vljax.models import text as text_tower
from vljax.objectives.contrastive import sigmoid_contrastive, softmax_contrastive
from vljax.ops import augment
from vljax.parallel import Axis
from vljax.train.recipe import Paired, Recipe
from vljax.train.run import Run
from vljax.types import Array, Batch, Float, Int, Params, Rng, UInt8

FIELDS = {"image": "image", "text": "tokens"}
"""Tower to the field of a batch that it reads; NAME_features in its place are a frozen tower's, made before."""

TOKENIZER_MEANING = ("kind", "sha256", "length", "options")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocess:
  """How pictures become the towers' input; stored in the checkpoint, since nothing in the weights tells it.

  Attributes:
    normalize: the name of mean and std (vljax.data.mean_std), or ((mean), (std)) of values in [0, 1].
    interpolation: of the resize at evaluation.
    resize: the `shortest` side to the size then centre crop, the `longest` then padding, or `squash` both sides.
  """

  normalize: Literal["clip", "inception", "imagenet", "none"] | tuple[tuple[float, ...], tuple[float, ...]] = "clip"
  interpolation: transforms.Interpolation = "bicubic"
  resize: transforms.ResizeMode = "shortest"

  @property
  def constants(self) -> tuple[Any, Any]:
    """(mean, std)."""
    return mean_std.mean_std(self.normalize) if isinstance(self.normalize, str) else self.normalize

  @property
  def mean_color(self) -> tuple[int, ...]:
    """The mean as a color of 8 bits, which margins have."""
    return tuple(round(255 * float(x)) for x in self.constants[0])

  def apply(self, image: UInt8[Array, "b h w c"] | Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """(x / 255 - mean) / std as one multiply and add; float input counts as [0, 255], too."""
    mean, std = map(jnp.asarray, self.constants)
    return image.astype(jnp.float32) * (1.0 / (255.0 * std)) - mean / std


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """An evaluation on held-out pictures.

  Attributes:
    kind: `retrieval` of captions and pictures, `zeroshot` classification of the source's classes, `knn` (the votes of
      20 labelled neighbors) or `probe` (logistic regression on labelled pictures).
    source: `kind:path?split=val...`; `features:` needs the projections alone.
    labelled: the source that `knn` and `probe` learn from.
    every: steps between evaluations; 0: at the end only.
    first: also before the first step, to see chance.
    weights: their moving average `ema` where the run keeps one, or `params`.
    templates: prompts of `zeroshot`; None: those of `names`, or "a photo of a {}.".
    names: the data set (evaluate.prompts.CLASS_NAMES) that `zeroshot` takes class names from; None: the source's own.
    batch: examples per call.
  """

  kind: Literal["retrieval", "zeroshot", "knn", "probe"]
  source: str
  labelled: str | None = None
  every: int = 0
  first: bool = False
  weights: Literal["ema", "params"] = "ema"
  templates: tuple[str, ...] | None = None
  names: str | None = None
  batch: int = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """The page that a run ends with.

  Attributes:
    source: of held-out pictures and their names.
    queries: texts, for each of which the nearest pictures are shown.
    title: at its top.
  """

  source: str
  queries: tuple[str, ...] = ()
  title: str = "CLIP"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Run):
  """The keys of a `clip` config, besides those of every run.

  Attributes:
    variant: of models.dual_encoder; None: `image` and `text` say everything.
    image: `tower`, a key of dual_encoder.IMAGE_TOWERS, `variant` of it, and its overrides.
    text: likewise of dual_encoder.TEXT_TOWERS.
    dim: width of the joint space; None: the variant's, or 512.
    loss: over the pairs, `softmax` (CLIP) or `sigmoid` (SigLIP, arXiv 2303.15343), which wants joint.bias_init.
    loss_implementation: `plain`, `tiled` or `ring` (objectives.contrastive); None picks by size and mesh.
    label_smoothing: of both softmaxes (ALIGN, arXiv 2102.05918, uses 0.1).
    joint: further fields of models.dual_encoder.DualEncoder, such as scale_init.
    lock: tower to how many of its last groups (models.groups) are trained; {"image": 0} locks it whole.
    layer_decay: tower to what each group's learning rate is multiplied by for every group above it.
    trains: the parameters that are trained; the others are frozen. A tower of which nothing is trained runs as at
      evaluation: without dropout, and with the batch statistics that it has.
    augment: steps of vljax.ops.augment on the device, after the streams' own.
  """

  variant: str | None = None
  image: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  text: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  dim: int | None = None
  loss: Literal["softmax", "sigmoid"] = "softmax"
  loss_implementation: Literal["plain", "tiled", "ring"] | None = None
  label_smoothing: float = 0.0
  joint: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  lock: Mapping[str, int] = dataclasses.field(default_factory=dict)
  layer_decay: Mapping[str, float] = dataclasses.field(default_factory=dict)
  trains: str = ".*"
  augment: tuple[Any, ...] = ()
  preprocess: Preprocess = Preprocess()
  tokenizer: vocabulary.Vocabulary | None = vocabulary.Vocabulary()
  evals: Mapping[str, Evaluation] = dataclasses.field(default_factory=dict)
  report: Report | None = None


def build(config: Config, tokenizer: tokenizers.Tokenizer | None = None) -> Recipe:
  """The recipe of a parsed config.

  Raises:
    ValueError: an unknown variant or override, smoothing of a loss that has none, or a tokenizer that does not fit
      the text tower.
  """
  model, trains = build_model(config), trained(config)
  if config.loss == "sigmoid" and config.label_smoothing:
    raise ValueError(
      f"config.label_smoothing = {config.label_smoothing} is of the softmax loss; legal with sigmoid: 0"
    )
  if tokenizer is not None:
    check_tokenizer(model, tokenizer)
  towers = Towers(model, config.preprocess)

  fixed = groups.frozen(model, tuple(FIELDS), trains)
  inner, view = nfnet.viewed(model, "image")
  steps = augment.build(config.augment)

  def prepare(batch: Batch, rng: Rng) -> Batch:
    if not config.augment or "image" not in batch:
      return batch
    return {**batch, "image": 255.0 * steps(rng, batch["image"].astype(jnp.float32) / 255.0)}

  def init(rng: Rng, batch: Batch) -> tuple[Params, dict]:
    check_fields(batch, fixed)
    inputs = dict(zip(FIELDS, model.inputs(), strict=True))
    inputs |= {name: batch[field][:1] for name, field in FIELDS.items() if field in batch}
    made = dict(model.init(rng, towers.normalize(inputs["image"]), inputs["text"]))
    return made.pop("params"), made

  def embed(params, extras, batch, rng):
    z, extras = {}, dict(extras)
    for name, field in FIELDS.items():
      if f"{name}_features" in batch:
        z[name] = inner.apply({"params": params}, batch[f"{name}_features"], method=f"project_{name}")
        continue
      x = towers.normalize(batch[field]) if name == "image" else batch[field]
      train = name not in fixed
      moving = [STATISTICS] if train and name in extras.get(STATISTICS, {}) else False
      options = dict(method=f"encode_{name}", train=train, rngs={"dropout": rng}, mutable=moving)
      found = inner.apply({"params": params, **extras}, x, **options)
      z[name], new = found if moving else (found, {})
      extras |= new
    return (z["image"], z["text"]), extras

  def join(params, z):
    image, text = z
    scale = model.apply({"params": params}, method="scale")
    if config.loss == "sigmoid":
      bias = model.apply({"params": params}, method="offset")
      loss, metrics = sigmoid_contrastive(image, text, scale, bias, implementation=config.loss_implementation)
    else:
      options = dict(label_smoothing=config.label_smoothing, implementation=config.loss_implementation)
      loss, metrics = softmax_contrastive(image, text, scale, **options)
    return {"loss": loss}, metrics

  rates = groups.rates(_names(model), config.layer_decay) if config.layer_decay else None
  phase = Paired(name="clip", embed=embed, join=join, trains=trains, rates=rates, streams=tuple(config.streams))
  evals = {} if tokenizer is None else {k: _evaluation(e, config, model, tokenizer) for k, e in config.evals.items()}
  return Recipe(
    init=init, phases=(phase,), prepare=prepare, view=view, predict=towers.predict(), evals=evals, model=model
  )


def build_model(config: Config) -> dual_encoder.DualEncoder:
  """The dual encoder of a config; blocks at the bottom of a tower that is not trained get no weight gradients."""
  return groups.hold(_whole(config), ("image", "text"), trained(config))


def trained(config: Config) -> str:
  """The regex of the parameters that are trained: `trains` without what `lock` locks."""
  return groups.unlocked(_names(_whole(config)), config.lock, config.trains) if config.lock else config.trains


def _names(model: dual_encoder.DualEncoder) -> list[str]:
  flat = tree.flatten(fitting.abstract(model))
  return [unstacked for name, leaf in flat.items() for unstacked in tree.layer_names(name, leaf)]


def _whole(config: Config) -> dual_encoder.DualEncoder:
  fields = {**config.joint, **({} if config.dim is None else {"dim": config.dim})}
  towers = dict(image=dict(config.image), text=dict(config.text))
  build = dual_encoder.build_from if config.variant is None else functools.partial(dual_encoder.build, config.variant)
  return build(**towers, **fields)


def meaning(config: Config, tokenizer: tokenizers.Tokenizer | None) -> dict[str, Any]:
  """What changes results silently: kept in the checkpoint, compared when it is opened or continued."""
  return model_meaning(_whole(config), config.preprocess, tokenizer)


def model_meaning(
  model: dual_encoder.DualEncoder, preprocess: Preprocess, tokenizer: tokenizers.Tokenizer | None
) -> dict[str, Any]:
  """`meaning` of a built model, wherever it came from."""
  mean, std = preprocess.constants
  return {
    "image": {"activation": model.image.activation, "pool": model.image.pool, "size": model.image.image_size},
    "preprocess": {"mean": mean, "std": std, "interpolation": preprocess.interpolation, "resize": preprocess.resize},
    "text": {"activation": model.text.activation, "pool": model.text.pool, "eos_id": model.text.eos_id},
    "tokenizer": {} if tokenizer is None else {name: tokenizer.spec()[name] for name in TOKENIZER_MEANING},
  }


class Towers:
  """A dual encoder as functions of raw pictures and tokens."""

  def __init__(self, model: dual_encoder.DualEncoder, preprocess: Preprocess):
    self.model, self.normalize = model, preprocess.apply

  def predict(self) -> dict[str, Any]:
    """`encode_image(params, image)`, `encode_text(params, tokens)`: unit vectors; `scale(params)`.

    `image_features` and `text_features` take the same, and give what the towers do before the joint space;
    `project_image` and `project_text` go on from there.
    """
    image = {name: jax.jit(functools.partial(self._image, name)) for name in ("encode_image", "image_features")}
    text = {name: jax.jit(functools.partial(self._text, name)) for name in ("encode_text", "text_features")}
    rest = {name: jax.jit(functools.partial(self._project, name)) for name in ("project_image", "project_text")}
    return {**image, **text, **rest, "scale": self.scale}

  def encode_image(self, params: Params, image: UInt8[Array, "b h w c"]) -> Float[Array, "b d"]:
    return self._image("encode_image", params, image)

  def encode_text(self, params: Params, tokens: Int[Array, "b t"]) -> Float[Array, "b d"]:
    return self._text("encode_text", params, tokens)

  def _image(self, method: str, params: Params, image: UInt8[Array, "b h w c"]) -> Float[Array, "b d"]:
    image = parallel.constrain(image, Axis.BATCH, None, None, None)
    return self.model.apply(variables(params), self.normalize(image), method=method)

  def _text(self, method: str, params: Params, tokens: Int[Array, "b t"]) -> Float[Array, "b d"]:
    tokens = parallel.constrain(tokens, Axis.BATCH, None)
    return self.model.apply(variables(params), tokens, method=method)

  def _project(self, method: str, params: Params, z: Float[Array, "b e"]) -> Float[Array, "b d"]:
    z = parallel.constrain(z, Axis.BATCH, None)
    return self.model.apply(variables(params), z, method=method)

  def scale(self, params: Params) -> Float[Array, ""]:
    return self.model.apply(variables(params), method="scale")


def check_fields(batch: Batch, fixed: Collection[str] = ()) -> None:
  """Check that a stream gives what the towers read, or, for `fixed` ones, what they gave.

  Raises:
    ValueError: naming the missing field, or the tower whose features were made before though it is trained.
  """
  for tower, name in FIELDS.items():
    if f"{tower}_features" in batch:
      if tower not in fixed:
        raise ValueError(
          f"the stream gives {tower}_features, made before, but the {tower} tower is trained: config.trains must "
          f"leave it out, or the stream must give {name}"
        )
    elif name not in batch:
      raise ValueError(
        f"the streams of clip must give the fields image and tokens; there is no {name!r} among "
        f"{', '.join(sorted(batch)) or 'none'} (see config.streams.NAME.transforms)"
      )


def check_tokenizer(model: dual_encoder.DualEncoder, tokenizer: tokenizers.Tokenizer) -> None:
  """Check that the text tower can read what the tokenizer writes.

  Raises:
    ValueError: ids beyond the embedding, texts longer than the positions, other padding than the tower leaves unseen,
      or another end-of-text rule.
  """
  text: Any = model.text
  if tokenizer.vocab_size > text.vocab:
    raise ValueError(f"the tokenizer has {tokenizer.vocab_size} ids; config.text.vocab = {text.vocab} holds fewer")
  if tokenizer.length > text.length:
    raise ValueError(f"config.tokenizer.length = {tokenizer.length} is more than config.text.length = {text.length}")
  if getattr(text, "pad_id", tokenizer.pad_id) != tokenizer.pad_id:
    raise ValueError(f"the tokenizer pads with id {tokenizer.pad_id}; config.text.pad_id = {text.pad_id} is unseen")
  anywhere = text.pool == "last" and not text.causal  # the last position, padding or not, has seen the whole text
  if text.pool not in text_tower.POOLS:  # such as BERT's mean, which looks for no end
    return
  finds_end = anywhere or (text.eos_id == tokenizer.eos_id if text.pool == "eos" else text.pool == tokenizer.pool)
  if not finds_end:
    raise ValueError(
      f"tokenizer {tokenizer.kind} ends texts with id {tokenizer.eos_id}, to be pooled by {tokenizer.pool!r}; "
      f"config.text pools by {text.pool!r} with eos_id = {text.eos_id}"
    )


def gallery(
  source: str,
  preprocess: Preprocess,
  size: int,
  tokenizer: tokenizers.Tokenizer | None,
  batch: int,
  crop: float = 1.0,
) -> Gallery:
  """The held-out pictures of a source as the model sees them; `crop` of `data.images.preprocess`."""
  steps = [("preprocess", size, preprocess.resize, preprocess.interpolation, crop), ("keep", "image")]
  return Gallery(sources.open(source), transforms.build(steps), tokenizer, batch)


def _evaluation(
  evaluation: Evaluation, config: Config, model: dual_encoder.DualEncoder, tokenizer: tokenizers.Tokenizer
) -> Eval:
  when = dict(every=evaluation.every, first=evaluation.first, weights=evaluation.weights)
  if sources.uris.parse(evaluation.source)[0] == "features":
    if evaluation.kind != "retrieval":
      raise ValueError(f"an evaluation of features is of kind 'retrieval'; found {evaluation.kind!r}")
    return Eval(FeatureGallery(sources.open(evaluation.source), evaluation.batch).retrieval, **when)
  see = lambda source: gallery(source, config.preprocess, model.image.image_size, tokenizer, evaluation.batch)
  asked = see(evaluation.source)
  if evaluation.kind == "retrieval":
    return Eval(asked.retrieval, **when)
  if evaluation.kind == "zeroshot":
    data_set = evaluation.names
    names = None if data_set is None else prompts.names_for(asked.source.classes or (), data_set)
    templates = evaluation.templates or prompts.usual(data_set)
    return Eval(lambda predict, params: asked.zeroshot(predict, params, templates, names), **when)
  if evaluation.labelled is None:
    raise ValueError(
      f"an evaluation of kind {evaluation.kind!r} learns from the source `labelled`, which is not given"
    )
  labelled, classify = see(evaluation.labelled), {"knn": asked.knn, "probe": asked.probe}[evaluation.kind]
  return Eval(lambda predict, params: classify(labelled, predict, params), **when)
