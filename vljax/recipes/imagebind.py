"""ImageBind: further modalities join the space of a frozen CLIP through pictures alone (arXiv 2305.05665)."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from vljax import config as config_lib
from vljax import parallel
from vljax.data import sources, tokenizers, transforms
from vljax.data.sources.source import in_words
from vljax.evaluate import features, gallery, prompts, zeroshot
from vljax.evaluate.between import between
from vljax.evaluate.schedule import Eval
from vljax.layers.batch_norm import STATISTICS
from vljax.models import bound, dual_encoder, fitting
from vljax.objectives.contrastive import softmax_contrastive
from vljax.ops import augment
from vljax.ops.augment import geometry, masks
from vljax.parallel import Axis
from vljax.recipes import clip
from vljax.train.recipe import Due, Paired, Recipe
from vljax.train.run import Run
from vljax.types import Array, Batch, Float, Params, Rng

BASE = "base"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Modality:
  """A modality besides pictures and texts, and how it is aligned.

  Attributes:
    tower: `kind` (of models.bound.TOWERS), `variant`, and overrides.
    streams: that give `image` and `field`.
    field: None means the modality's name.
    temperature: of its softmax; where training starts if it is `learned`.
    mean, std: the tower reads (x - mean) / std; of texts nothing is taken off.
    frequency_mask, time_mask: widest band of the first and second axis of inputs [h w c] that training hides; 0: none.
    erase: the share of inputs [h w c] in which training hides a random box.
    augment: steps of vljax.ops.augment, on the device, on the pictures as this modality meets them.
    every: its phase is due at steps that this divides; 1 where config.combine takes turns.
  """

  tower: Mapping[str, Any]
  streams: tuple[str, ...]
  field: str | None = None
  temperature: float = 0.07
  learned: bool = False
  mean: float = 0.0
  std: float = 1.0
  frequency_mask: int = 0
  time_mask: int = 0
  erase: float = 0.0
  augment: tuple[Any, ...] = ()
  every: int = 1

  def __post_init__(self):
    if not 0 <= self.erase <= 1:
      raise ValueError(f"erase = {self.erase}; legal: 0 to 1")
    if self.temperature <= 0 or self.std <= 0:
      raise ValueError(f"temperature = {self.temperature}, std = {self.std}; legal: above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Between:
  """An evaluation of modalities that may never have met (emergent zero-shot).

  Attributes:
    kind: `retrieval`, does an example's one modality find its own other among all of the source; or `zeroshot`, do
      prompts of its class, of all classes, lie nearest.
    source: of held-out examples.
    transforms: that give the fields of both modalities, none at random.
    query, answer: `image`, `text` or a name of config.modalities; prompts answer as `text`.
    group: the field whose values are drawn as wholes for the interval of `retrieval`.
    templates, names: of `zeroshot`, as of recipes.clip.
  """

  kind: Literal["retrieval", "zeroshot"] = "retrieval"
  source: str
  transforms: tuple[Any, ...]
  query: str
  answer: str = "text"
  group: str = "key"
  templates: tuple[str, ...] | None = None
  names: str | None = None
  every: int = 0
  batch: int = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Run):
  """The keys of an `imagebind` config, besides those of every run.

  Attributes:
    image, text, dim, joint: of the base, as of recipes.clip; its weights come by config.init under the prefix `base`.
      Towers of pictures with batch statistics are refused.
    base_streams: of pictures and `tokens` that train the base as well; without any it is frozen.
    modalities: name to modality; `encode_NAME` is its function.
    combine: `round_robin` takes one modality a step, the others take all.
  """

  image: Mapping[str, Any]
  text: Mapping[str, Any]
  dim: int = 512
  joint: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  base_streams: tuple[str, ...] = ()
  modalities: Mapping[str, Modality]
  preprocess: clip.Preprocess = clip.Preprocess()
  evals: Mapping[str, Between] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    super().__post_init__()
    if not self.modalities:
      raise ValueError("config.modalities names no modality")
    for name in self.modalities:
      if not name.isidentifier() or name in ("image", "text", BASE):
        raise ValueError(f"a modality is named {name!r}; legal: an identifier but image, text and {BASE}")
    self._check_due()

  def _check_due(self) -> None:
    """Each `every` can be followed, and no step is without a phase."""
    turns = self.combine == "round_robin"
    found = {f"config.modalities.{name}.every": modality.every for name, modality in self.modalities.items()}
    for key, every in found.items():
      if every < 1 or (turns and every > 1):
        legal = f"1, since combine = {self.combine!r}" if turns else "1 or more"
        raise ValueError(f"{key} = {every}; legal: {legal}")
    often = [stream for m in self.modalities.values() if m.every == 1 for stream in m.streams]
    if {name for name, stream in self.streams.items() if stream.every > 1}.issuperset([*self.base_streams, *often]):
      listed = ", ".join(f"{key} = {every}" for key, every in found.items())
      legal = "1 for one of them, and config.streams.NAME.every = 1 for a stream of its"
      raise ValueError(f"nothing is due at step 1: {listed}; legal: {legal}")


def build(config: Config, tokenizer: tokenizers.Tokenizer | None = None) -> Recipe:
  """The recipe of a parsed config.

  Raises:
    ValueError: an unknown variant or override, a base that is neither trained nor read or that has batch statistics,
      an evaluation of an unknown modality, or a tokenizer that does not fit the text tower.
  """
  if not config.base_streams and not any(prefix.split("/")[0] == BASE for *_, prefix in config.init):
    raise ValueError(
      "the base would stay random: set config.init = [(WORKDIR of a clip run, '.*', 'base')] or config.base_streams"
    )
  model = build_model(config)
  if STATISTICS in fitting.abstract_weights(model.image):
    found = f"config.image.tower = {config.image['tower']!r} has batch statistics, which imagebind does not keep"
    raise ValueError(f"{found}; legal: a tower without, 'vit' or 'nfnet'")
  if tokenizer is not None:
    clip.check_tokenizer(model, tokenizer)
  encoders = Encoders(model, config)
  phases = [_base_phase(config, encoders)] if config.base_streams else []
  phases += [_phase(name, modality, encoders) for name, modality in config.modalities.items()]
  evals = {} if tokenizer is None else {n: _evaluation(n, e, config, tokenizer) for n, e in config.evals.items()}

  def init(rng: Rng, batch: Batch) -> tuple[Params, dict]:
    del batch  # each stream has other fields
    return model.init(rng, *model.inputs())["params"], {}

  def due(step: int) -> Due:
    turns = [(phase.name, stream) for phase in phases for stream in phase.streams]
    return (turns[step % len(turns)],)

  return Recipe(
    init=init,
    phases=tuple(phases),
    prepare=_prepare(config.modalities),
    due=due if config.combine == "round_robin" else None,
    predict=encoders.predict(),
    evals=evals,
    model=model,
  )


def build_model(config: Config) -> bound.Bound:
  """The base with an encoder per modality.

  Raises:
    ValueError: an unknown variant or field, with the nearest name.
  """
  base = dual_encoder.build_from(dict(config.image), dict(config.text), dim=config.dim, **config.joint)
  encoders = {
    name: {"tower": modality.tower, "scale_init": 1 / modality.temperature, "learned": modality.learned}
    for name, modality in config.modalities.items()
  }
  return bound.build(base, encoders, config.dim)


def inputs(config: Config, model: bound.Bound, stream: str) -> Batch:
  """Zeros of the fields that are read of a stream, for one example."""
  image, tokens, further = model.inputs()
  told = {"tokens": tokens} if stream in config.base_streams else {}
  read = {m.field or name: further[name] for name, m in config.modalities.items() if stream in m.streams}
  return {"image": image, **told, **read}


def meaning(config: Config, tokenizer: tokenizers.Tokenizer | None) -> dict[str, Any]:
  """What changes results silently: kept in the checkpoint, compared when it is opened or continued."""
  model = build_model(config)
  further = {
    name: {"mean": modality.mean, "std": modality.std, "activation": model.encoders[name].tower.activation}
    for name, modality in config.modalities.items()
  }
  return {**clip.model_meaning(model.base, config.preprocess, tokenizer), "modalities": further}


class Encoders(clip.Towers):
  """The base's towers and the further encoders as functions of raw arrays."""

  def __init__(self, model: bound.Bound, config: Config):
    super().__init__(model, config.preprocess)
    self.modalities = config.modalities

  def predict(self) -> dict[str, Any]:
    """`encode_image`, `encode_text`, `scale`, and `encode_NAME(params, array)` of each further modality."""
    further = {f"encode_{name}": jax.jit(functools.partial(self.encode, name)) for name in self.modalities}
    base = super().predict()
    return {name: base[name] for name in ("encode_image", "encode_text", "scale")} | further

  def encode(self, name: str, params: Params, x: Array) -> Float[Array, "b d"]:
    """Unit vectors of a modality's raw arrays, or means of such over clips [b clips ...]."""
    x = parallel.constrain(x, Axis.BATCH, *(None,) * (x.ndim - 1))
    return self.model.apply({"params": params}, name, self.standard(name, x), method="encode")

  def standard(self, name: str, x: Array) -> Array:
    """(x - mean) / std in float32; integers of texts stay."""
    modality = self.modalities[name]
    if modality.tower.get("kind") == "text":
      return x
    return (x.astype(jnp.float32) - modality.mean) / modality.std


def _phase(name: str, modality: Modality, encoders: Encoders) -> Paired:
  field = modality.field or name

  def embed(params, extras, batch, rng):
    _check_fields(name, batch, ("image", field))
    image = jax.lax.stop_gradient(encoders.encode_image(params, batch[_met(name) if modality.augment else "image"]))
    x = encoders.standard(name, batch[field])
    other = encoders.model.apply({"params": params}, name, x, train=True, rngs={"dropout": rng}, method="encode")
    return (image, other), extras

  def join(params, z):
    scale = encoders.model.apply({"params": params}, name, method="scale")
    image, other = z
    loss, metrics = softmax_contrastive(image, other, scale)
    return {"loss": loss}, metrics

  trains = f"encoders_{name}/.*"
  return Paired(name=name, embed=embed, join=join, trains=trains, streams=modality.streams, every=modality.every)


def _base_phase(config: Config, encoders: Encoders) -> Paired:
  def embed(params, extras, batch, rng):
    _check_fields(BASE, batch, ("image", "tokens"))
    apply = functools.partial(encoders.model.apply, {"params": params}, train=True, rngs={"dropout": rng})
    image = apply(encoders.normalize(batch["image"]), method="encode_image")
    return (image, apply(batch["tokens"], method="encode_text")), extras

  def join(params, z):
    image, text = z
    loss, metrics = softmax_contrastive(image, text, encoders.scale(params))
    return {"loss": loss}, metrics

  return Paired(name=BASE, embed=embed, join=join, trains=f"{BASE}/.*", streams=config.base_streams)


def _check_fields(name: str, batch: Batch, fields: tuple[str, ...]) -> None:
  for field in fields:
    if field not in batch:
      raise ValueError(
        f"the streams of {name} must give the fields {' and '.join(fields)}; there is no {field!r} among "
        f"{', '.join(sorted(batch)) or 'none'} (see config.streams.NAME.transforms)"
      )


def _prepare(modalities: Mapping[str, Modality]) -> Callable[[Batch, Rng], Batch]:
  """A function of a stream's whole batch, before it is cut in micro-batches, that draws what training sees of it."""
  steps = {name: augment.build(modality.augment) for name, modality in modalities.items()}

  def prepare(batch: Batch, rng: Rng) -> Batch:
    for number, (name, modality) in enumerate(modalities.items()):
      field = modality.field or name
      if field not in batch:
        continue
      _check_fields(name, batch, ("image", field))
      key = jax.random.fold_in(rng, number)
      batch = batch | {field: _hide(name, modality, key, batch[field])}
      if modality.augment:
        images = steps[name](jax.random.fold_in(key, 3), batch["image"].astype(jnp.float32) / 255)
        batch = batch | {_met(name): 255 * images}
    return batch

  return prepare


def _met(name: str) -> str:
  """The field of the pictures as one modality's augmentations leave them: others may read the same stream."""
  return f"image_of_{name}"


def _hide(name: str, modality: Modality, rng: Rng, x: Array) -> Array:
  """Bands and boxes of the inputs set to their mean."""
  hidden = {key: getattr(modality, key) for key in ("frequency_mask", "time_mask", "erase") if getattr(modality, key)}
  if hidden and x.ndim < 4:
    key, value = next(iter(hidden.items()))
    raise ValueError(f"config.modalities.{name}.{key} = {value} for inputs of {x.ndim - 1} axes; legal: 0, or [h w c]")
  keys = jax.random.split(rng)
  for key, axis, widest in zip(keys, (-3, -2), (modality.frequency_mask, modality.time_mask), strict=True):
    if widest:
      x = masks.band(key, x, x.ndim + axis, widest, modality.mean)
  if modality.erase:
    each = x.reshape(-1, *x.shape[-3:])
    x = geometry.random_erasing(jax.random.fold_in(rng, 2), each, modality.erase, fill=modality.mean).reshape(x.shape)
  return x


def _evaluation(name: str, wanted: Between, config: Config, tokenizer: tokenizers.Tokenizer) -> Eval:
  fields = {"image": "image", "text": "tokens", **{n: m.field or n for n, m in config.modalities.items()}}
  for side in (wanted.query, wanted.answer):
    config_lib.choose(f"modality of config.evals.{name}", side, fields)
  pipeline = transforms.build(wanted.transforms, tokenizer, f"config.evals.{name}.transforms")
  if pipeline.random:
    raise ValueError(f"config.evals.{name}.transforms draw at random; legal: none that does")

  if wanted.kind == "zeroshot" and wanted.answer != "text":
    raise ValueError(f"config.evals.{name}.answer = {wanted.answer!r}; legal with kind = 'zeroshot': 'text'")

  @functools.cache
  def opened() -> tuple[sources.Source, list[dict]]:
    source = sources.open(wanted.source)
    if wanted.kind == "zeroshot" and not source.classes:
      raise ValueError(f"zero-shot classification needs classes; {source.name} has none")
    return source, [pipeline(source[i]) for i in range(len(source))]

  def run(predict, params):
    source, rows = opened()

    def encode(side: str) -> np.ndarray:
      call = lambda part: predict[f"encode_{side}"](params, np.stack([row[fields[side]] for row in part]))
      return features.encode(call, rows, min(wanted.batch, len(rows)))

    if wanted.kind == "retrieval":
      return between(encode(wanted.query), encode(wanted.answer), source.values(wanted.group))
    names = prompts.names_for(source.classes, wanted.names) if wanted.names else list(map(in_words, source.classes))
    weights = zeroshot.classifier(
      lambda texts: predict["encode_text"](params, tokenizer(list(texts))),
      names, wanted.templates or prompts.usual(wanted.names), wanted.batch,
    )  # fmt: skip
    labels = gallery.labels_of(map(source.row, range(len(source))), source.name)
    return zeroshot.evaluate(encode(wanted.query), labels, weights)

  return Eval(run, every=wanted.every, open=opened)
