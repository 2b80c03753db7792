"""Flamingo: a frozen language model that sees, through a resampler and gated blocks (arXiv 2204.14198)."""

import dataclasses
import functools
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from vljax import parallel, tree
from vljax.data import interleave, sources, tokenizers, transforms, vocabulary
from vljax.data.interleave import CHUNK, IMAGE
from vljax.data.pictures import Pictures
from vljax.evaluate import perplexity
from vljax.evaluate.schedule import Eval
from vljax.layers.batch_norm import variables
from vljax.models import flamingo, groups, nfnet
from vljax.objectives import lm
from vljax.ops import augment
from vljax.parallel import Axis
from vljax.recipes import clip
from vljax.train.recipe import Phase, Recipe
from vljax.train.run import Run
from vljax.types import Array, Batch, Float, Params, Rng, UInt8

NEW = r"(resampler|xattn|graft)/.*|lm/extra_.*"
"""What Flamingo trains: everything between the vision encoder and the language model, and the rows of the tokens that
the language model did not know."""

FIELDS = ("tokens", "phi", "first", "segments", "positions", "loss_mask", "images", "media_mask")
"""What the transform `pack` gives."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocess(clip.Preprocess):
  """As of recipes.clip, for pictures that the transform `pictures` pads to squares."""

  resize: transforms.ResizeMode = "longest"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """An evaluation: the perplexity of held-out texts with their own media, with others', and with none.

  Attributes:
    source: `kind:path?split=val...`, of rows that `transforms` make documents of, one in a row, none at random.
    group: the field whose values are drawn as wholes for the intervals; None: every example is its own.
    most: of the source's examples; 0: all.
    every: steps between evaluations; 0: at the end only.
    batch: rows per call.
  """

  kind: Literal["perplexity"] = "perplexity"
  source: str
  transforms: tuple[Any, ...]
  group: str | None = None
  most: int = 0
  every: int = 0
  batch: int = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Run):
  """The keys of a `flamingo` config, besides those of every run.

  Attributes:
    variant: of models.flamingo.
    vision, lm, resampler, xattn: overrides of the variant's parts; `vision` may name another `tower`.
    graft: blocks on top of the language model, an ablation; see models.flamingo.
    trains: the parameters that are trained; the others are frozen.
    augment: steps of vljax.ops.augment that training media go through on the device, all frames of a clip alike.
    preprocess: how pictures become the vision encoder's input; they are padded to squares, so `resize` is `longest`.
  """

  variant: str
  vision: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  lm: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  resampler: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  xattn: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  graft: int = 0
  trains: str = NEW
  augment: tuple[Any, ...] = ()
  preprocess: Preprocess = Preprocess()
  tokenizer: vocabulary.Vocabulary | None = vocabulary.Vocabulary()
  evals: Mapping[str, Evaluation] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    super().__post_init__()
    if self.preprocess.resize != "longest":
      raise ValueError(
        f"config.preprocess.resize = {self.preprocess.resize!r}; legal: 'longest', since the transform `pictures` pads"
      )
    for kind, parts in (("streams", self.streams), ("evals", self.evals)):
      for name, part in parts.items():
        self._check_margins(f"config.{kind}.{name}.transforms", part.transforms)

  def _check_margins(self, where: str, steps: Sequence[Sequence[Any]]) -> None:
    """Margins of another color than the bundle's would be seen in training alone."""
    mean = self.preprocess.mean_color
    for _, step in transforms.build([step for step in steps if "pictures" in step[:1]], where=where).steps:
      if isinstance(step, Pictures) and step.fill != mean:
        found = f"{where}: pictures has fill = {step.fill}, but config.preprocess.normalize subtracts {mean}"
        raise ValueError(f"{found}; legal: fill = {mean}")


def build(config: Config, tokenizer: tokenizers.Tokenizer | None = None) -> Recipe:
  """The recipe of a parsed config.

  Raises:
    ValueError: an unknown variant or override, or a tokenizer that does not fit the language model.
  """
  model = build_model(config)
  if tokenizer is not None:
    check_tokenizer(model, tokenizer)
  inner, view = nfnet.viewed(model, "vision")
  fixed = groups.frozen(model, ("vision", "lm/blocks"), config.trains)
  functions, steps = Functions(inner, config.preprocess, fixed), augment.build(config.augment)

  def init(rng: Rng, batch: Batch) -> tuple[Params, dict]:
    check_fields(batch)
    made = dict(model.init(rng, *model.inputs()))
    return made.pop("params"), made

  def prepare(batch: Batch, rng: Rng) -> Batch:
    images = batch["images"]
    if not config.augment or not images.size:
      return batch
    media = images.reshape(-1, *images.shape[2:]).astype(jnp.float32) / 255.0
    seen = jax.vmap(steps, in_axes=(None, 1), out_axes=1)(rng, media)  # one draw for all frames of a medium
    return {**batch, "images": 255.0 * seen.reshape(images.shape)}

  def loss(params, extras, batch, rng):
    weights = {"params": params, **extras}
    x = functions.hidden(weights, batch, train=True, rngs={"dropout": rng})
    value, metrics = lm.next_token(functions.head(weights), x, batch["tokens"], batch["loss_mask"])
    return {"nll": value}, {**metrics, **gates(params)}, extras

  phase = Phase(
    name="lm",
    loss=loss,
    weights=lambda batch: {"nll": lm.token_weight(batch["loss_mask"])},
    trains=config.trains,
    streams=tuple(config.streams),
  )
  evals = {} if tokenizer is None else {k: _evaluation(e, tokenizer, k) for k, e in config.evals.items()}
  predict = Functions(model, config.preprocess).predict()
  return Recipe(init=init, phases=(phase,), prepare=prepare, view=view, predict=predict, evals=evals, model=model)


def build_model(config: Config) -> flamingo.Flamingo:
  """The Flamingo of a config; blocks at the bottom of a part that are not trained get no weight gradients."""
  parts = {name: dict(getattr(config, name)) for name in ("vision", "lm", "resampler", "xattn")}
  model = flamingo.build(config.variant, **parts, graft=config.graft)
  return groups.hold(model, ("vision", "lm"), config.trains)


def meaning(config: Config, tokenizer: tokenizers.Tokenizer | None) -> dict[str, Any]:
  """What changes results silently: kept in the checkpoint, compared when it is opened or continued."""
  model: Any = build_model(config)
  preprocess = config.preprocess
  mean, std = preprocess.constants
  return {
    "image": {"activation": model.vision.activation, "size": model.vision.image_size},
    "preprocess": {"mean": mean, "std": std, "interpolation": preprocess.interpolation, "resize": preprocess.resize},
    "lm": {name: getattr(model.lm, name) for name in ("activation", "positions", "rotary_base", "interleaved")},
    "xattn": {name: getattr(model.xattn, name) for name in ("activation", "gate", "previous")}
    | {"at": model.xattn.at},
    "tokenizer": {} if tokenizer is None else {name: tokenizer.spec()[name] for name in clip.TOKENIZER_MEANING},
  }


class Functions:
  """A Flamingo as functions of raw pictures and tokens; its `fixed` parts know no dropout and the like."""

  def __init__(self, model: flamingo.Flamingo, preprocess: clip.Preprocess, fixed: Container[str] = ()):
    self.model, self.preprocess, self.fixed = model, preprocess, fixed

  def predict(self) -> dict[str, Any]:
    """`encode_image(params, images [b n f h w 3])`: visual tokens; `losses(params, batch)`: of each row the sum of
    -log p over the tokens that count, and their number."""
    return {name: jax.jit(getattr(self, name)) for name in ("encode_image", "losses")}

  def encode_image(self, params: Params, images: UInt8[Array, "b n f h w c"]) -> Float[Array, "b n l d"]:
    return self._visual(variables(params), images)

  def losses(self, params: Params, batch: Batch) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
    weights = variables(params)
    x = self.hidden(weights, batch)
    loss, _ = lm.rows(self.head(weights), x, batch["tokens"], batch["loss_mask"])
    return loss, batch["loss_mask"][:, 1:].sum(1)

  def hidden(self, weights: Mapping[str, Any], batch: Batch, *, train: bool = False, **options: Any) -> Array:
    """What `head` takes, of rows that `pack` made; `weights` are flax's variables."""
    batch = {name: parallel.constrain(x, Axis.BATCH, *(None,) * (x.ndim - 1)) for name, x in batch.items()}
    visual = self._visual(weights, batch["images"], train=train, **options) if batch["images"].shape[1] else None
    places = {name: batch[name] for name in ("positions", "segments", "first")}
    phi = None if visual is None else batch["phi"]
    options |= {"train": train, "frozen": "lm/blocks" in self.fixed, "method": "hidden"}
    return self.model.apply(weights, batch["tokens"], visual, phi, **places, **options)

  def head(self, weights: Mapping[str, Any]) -> Callable[[Float[Array, "*b d"]], Float[Array, "*b v"]]:
    """The function from what `hidden` gives to logits."""
    return functools.partial(self.model.apply, weights, method="logits")

  def _visual(self, weights: Mapping[str, Any], images: Array, *, train: bool = False, **options: Any) -> Array:
    options |= {"train": train and "vision" not in self.fixed, "method": "encode_image"}
    return self.model.apply(weights, self.preprocess.apply(images), **options)


def gates(params: Params) -> dict[str, Float[Array, ""]]:
  """|tanh| of each gate, which is 0 at the start: how far each gated block is open."""
  blocks = params["xattn"][tree.STACK]
  found = {name: jnp.abs(jnp.tanh(blocks[name])) for name in ("gate_attention", "gate_mlp") if name in blocks}
  return {f"{name}/{i}": x.mean() for name, opened in found.items() for i, x in enumerate(opened)}


def check_fields(batch: Batch) -> None:
  """Check that a stream gives rows of tokens and media.

  Raises:
    ValueError: naming the missing field.
  """
  for name in FIELDS:
    if name not in batch:
      raise ValueError(
        f"the streams of flamingo must give what the transform `pack` does; there is no {name!r} among "
        f"{', '.join(sorted(batch)) or 'none'} (see config.streams.NAME.transforms)"
      )


def check_tokenizer(model: flamingo.Flamingo, tokenizer: tokenizers.Tokenizer) -> None:
  """Check that the language model knows what the tokenizer writes, and which ids are new to it.

  Raises:
    ValueError: ids beyond the embedding, or `<image>` and `<EOC>` that are not the first ones behind it.
  """
  found, first = interleave.marks(tokenizer), model.lm.vocab
  if model.lm.extra and found != (first, first + 1):
    raise ValueError(
      f"{IMAGE} and {CHUNK} have the ids {found} of tokenizer {tokenizer.kind} with its {tokenizer.pieces} pieces; "
      f"config.lm.vocab = {first} and {model.lm.extra} extra rows want {(first, first + 1)}"
    )
  if tokenizer.vocab_size > first + model.lm.extra:
    raise ValueError(f"the tokenizer has {tokenizer.vocab_size} ids; the language model {first + model.lm.extra}")


def _evaluation(evaluation: Evaluation, tokenizer: tokenizers.Tokenizer, name: str) -> Eval:
  steps = transforms.build(evaluation.transforms, tokenizer, f"config.evals.{name}.transforms")
  if steps.random:
    raise ValueError(f"config.evals.{name}.transforms draw at random; legal: steps that do not")

  @functools.cache
  def opened() -> tuple[list[dict[str, np.ndarray]], list[Any]]:
    source = sources.open(evaluation.source)
    count = min(evaluation.most or len(source), len(source))
    rows = [(source[i], np.random.default_rng(i)) for i in range(count)]
    groups = [str(row[evaluation.group]) if evaluation.group else str(i) for i, (row, _) in enumerate(rows)]
    return [steps(*row) for row in rows], groups

  def run(predict: Mapping[str, Any], params: Params) -> dict[str, float]:
    rows, members = opened()
    return perplexity.conditional(functools.partial(predict["losses"], params), rows, members, evaluation.batch)

  return Eval(run, every=evaluation.every, open=opened)
