"""Image and text towers that meet on one unit sphere."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vljax import config
from vljax.layers.linear import Linear
from vljax.models import bert, efficientnet, fitting, modified_resnet, nfnet, resnet, variants, vit
from vljax.models import text as text_tower
from vljax.parallel import Axis
from vljax.types import Params

IMAGE_TOWERS: dict[str, ModuleType] = {
  "vit": vit,
  "modified_resnet": modified_resnet,
  "resnet": resnet,
  "efficientnet": efficientnet,
  "nfnet": nfnet,
}
TEXT_TOWERS: dict[str, ModuleType] = {"clip": text_tower, "bert": bert}
"""`tower` of a tower's overrides to the module with its VARIANTS, its `build` and, where weights can be fitted to
another size, its `adapt_params`. The first is the default."""

FIELDS = ("dim", "scale_init", "max_scale", "bias_init", "image_projection", "text_projection")
"""What a dual encoder has besides its towers."""

PROJECTIONS = {"none": False, "linear": False, "affine": True}
"""How a feature gets into the joint space; `affine` adds a bias, `none` takes it as it is."""

SHARED = ("activation", "dropout", "dtype", "remat", "unroll", "attention")
"""Overrides that go to both towers."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def limit(x: Float[Array, ""], top: float) -> Float[Array, ""]:
  """min(x, top), whose gradient above `top` still passes where it leads back down.

  A plain minimum has no gradient above its limit, so that a value once above would stay there. This one behaves as a
  clamp after each optimizer step, which is how CLIP's scale is limited.
  """
  return jnp.minimum(x, top)


def _limit_forward(x: Float[Array, ""], top: float) -> tuple[Float[Array, ""], Float[Array, ""]]:
  return jnp.minimum(x, top), x


def _limit_backward(top: float, x: Float[Array, ""], gradient: Float[Array, ""]) -> tuple[Float[Array, ""]]:
  return (jnp.where(x >= top, jnp.maximum(gradient, 0), gradient),)


limit.defvjp(_limit_forward, _limit_backward)


def unit(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
  """x / |x| over the last axis, in float32; zero stays zero."""
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-24))


class DualEncoder(nn.Module):
  """z = unit(head(tower(x))) for images and for texts, and a learned scale of their cosines (CLIP, arXiv 2103.00020).

  Attributes:
    dim: of the sphere's space.
    scale_init: log of the scale at the start, ln(1 / 0.07).
    max_scale: what the scale is limited to (section 2.5); None does not.
    bias_init: of a learned number that is added to scaled cosines; None: there is none (SigLIP, arXiv 2303.15343).
    image_projection, text_projection: from a tower's feature to the joint space, of PROJECTIONS.
  """

  image: nn.Module
  text: nn.Module
  dim: int = 512
  scale_init: float = math.log(1 / 0.07)
  max_scale: float | None = 100.0
  bias_init: float | None = None
  image_projection: str = "linear"
  text_projection: str = "linear"

  def setup(self):
    self.log_scale = self.param("log_scale", nn.initializers.constant(self.scale_init), ())
    if self.bias_init is not None:
      self.bias = self.param("bias", nn.initializers.constant(self.bias_init), ())
    self.image_head = self._head(self.image, self.image_projection)
    self.text_head = self._head(self.text, self.text_projection)

  def _head(self, tower: Any, projection: str) -> Callable[[Array], Array]:
    bias = config.choose("projection of DualEncoder", projection, PROJECTIONS)
    if projection == "none":
      if tower.width != self.dim:
        raise ValueError(f"projection 'none' keeps the tower's width {tower.width}, which is not dim = {self.dim}")
      return lambda x: x
    init = nn.initializers.normal(tower.width**-0.5)
    return Linear((self.dim,), (Axis.EMBED, Axis.JOINT), init, use_bias=bias, dtype=tower.dtype)

  def __call__(
    self, image: Float[Array, "b h w c"], tokens: Int[Array, "b t"], *, train: bool = False
  ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """Unit vectors of the images and of the texts."""
    return self.encode_image(image, train=train), self.encode_text(tokens, train=train)

  def encode_image(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b d"]:
    """Unit vectors of normalized NHWC images."""
    return self.project_image(self.image_features(image, train=train))

  def encode_text(self, tokens: Int[Array, "b t"], *, train: bool = False) -> Float[Array, "b d"]:
    """Unit vectors of tokenized texts."""
    return self.project_text(self.text_features(tokens, train=train))

  def image_features(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b e"]:
    """What the image tower gives, before the joint space."""
    return self.image(image, train=train)

  def text_features(self, tokens: Int[Array, "b t"], *, train: bool = False) -> Float[Array, "b e"]:
    """What the text tower gives, before the joint space."""
    return self.text(tokens, train=train)

  def project_image(self, features: Float[Array, "b e"]) -> Float[Array, "b d"]:
    """Unit vectors of the image tower's features."""
    return unit(self.image_head(features))

  def project_text(self, features: Float[Array, "b e"]) -> Float[Array, "b d"]:
    """Unit vectors of the text tower's features."""
    return unit(self.text_head(features))

  def scale(self) -> Float[Array, ""]:
    """What cosines are multiplied by: exp(log_scale), at most max_scale."""
    return jnp.exp(self.log_scale if self.max_scale is None else limit(self.log_scale, math.log(self.max_scale)))

  def offset(self) -> Float[Array, ""]:
    """What is added to scaled cosines: the learned bias, or zero."""
    return jnp.zeros(()) if self.bias_init is None else self.bias

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Float[Array, "b h w c"], Int[Array, "b t"]]:
    """Zeros of the shapes that the model takes, for `init`."""
    return (*self.image.inputs(batch), *self.text.inputs(batch))


_TOWERS = {"image": IMAGE_TOWERS, "text": TEXT_TOWERS}


def build_tower(which: str, tower: str | None = None, **overrides: Any) -> nn.Module:
  """The `image` or `text` tower of a kind, by its own `build`; the first kind of the table without `tower`.

  Raises:
    ValueError: an unknown tower, variant or field, with the nearest name.
  """
  table = _TOWERS[which]
  module = config.choose(f"tower of {which}", tower or next(iter(table)), table)
  return module.build(**overrides)


def tower_of(model: nn.Module) -> tuple[str, ModuleType]:
  """The name and the module of a tower, in the tables above."""
  return next(
    (name, module)
    for table in _TOWERS.values()
    for name, module in table.items()
    if module.__name__ == type(model).__module__
  )


def tower_config(model: nn.Module) -> dict[str, Any]:
  """A tower as the overrides that `build_tower` makes it from."""
  fields = {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.name not in ("parent", "name")}
  return {"tower": tower_of(model)[0], **fields}


def _variant(image: str, text: str, dim: int, activation: str = "gelu", **fields: Any) -> dict[str, Any]:
  towers = {"image": image, "text": text}
  return {**{n: {"variant": v, "activation": activation} for n, v in towers.items()}, "dim": dim, **fields}


def _siglip(image: str, text: str, dim: int, **words: Any) -> dict[str, Any]:
  scores = dict(scale_init=math.log(10), bias_init=-10.0, max_scale=None)
  heads = dict(image_projection="none", text_projection="affine")
  made = _variant(f"SigLIP-{image}", f"SigLIP-{text}", dim, "gelu_tanh", **scores, **heads)
  return {**made, "text": {**made["text"], **words}}


def _resnet(image: str, text: str, dim: int) -> dict[str, Any]:
  towers = dict(image=dict(tower="modified_resnet", variant=image), text=dict(variant=text, activation="quick_gelu"))
  return dict(**towers, dim=dim, image_projection="affine")


GEMMA = dict(vocab=256_000, length=64)

VARIANTS: dict[str, dict[str, Any]] = {
  "test": _variant("test", "test", 16),
  "small": _variant("small", "small", 128),
  "RN50": _resnet("RN50", "B", 1024),
  "RN101": _resnet("RN101", "B", 512),
  "RN50x4": _resnet("RN50x4", "x4", 640),
  "RN50x16": _resnet("RN50x16", "L", 768),
  "RN50x64": _resnet("RN50x64", "x64", 1024),
  "ViT-B-32": _variant("B/32", "B", 512, "quick_gelu"),
  "ViT-B-16": _variant("B/16", "B", 512, "quick_gelu"),
  "ViT-L-14": _variant("L/14", "L", 768, "quick_gelu"),
  "ViT-L-14-336": _variant("L/14@336", "L", 768, "quick_gelu"),
  "ViT-H-14": _variant("H/14", "H", 1024),
  "ViT-g-14": _variant("g/14", "H", 1024),
  "ViT-bigG-14": _variant("bigG/14", "bigG", 1280),
  "ViT-B-16-SigLIP": _siglip("B/16", "B", 768),
  "ViT-L-16-SigLIP-256": _siglip("L/16", "L", 1024),
  "ViT-SO400M-14-SigLIP": _siglip("So400m/14", "So400m", 1152),
  "ViT-B-16-SigLIP2": _siglip("B/16", "B", 768, **GEMMA),
  "ViT-L-16-SigLIP2-256": _siglip("L/16", "L", 1024, **GEMMA),
  "ViT-SO400M-14-SigLIP2": _siglip("So400m/14", "So400m", 1152, **GEMMA),
}
"""OpenAI's models come with their QuickGELU; LAION's, trained on the same shapes with GELU, take activation="gelu"."""


def build(variant: str, **overrides: Any) -> DualEncoder:
  """The dual encoder of a variant, upper and lower case alike.

  Overrides are fields of DualEncoder, `image` and `text` being dicts of the towers' own overrides, and those named in
  SHARED, which go to both towers: `build("ViT-B-32", activation="gelu", image=dict(image_size=256))`.

  Raises:
    ValueError: an unknown variant or override, with the nearest name.
  """
  variants.check("DualEncoder", overrides, ("image", "text", *FIELDS, *SHARED))
  base = variants.resolve("DualEncoder variant", variant, VARIANTS)
  shared = {name: overrides.pop(name) for name in SHARED if name in overrides}
  towers = {}
  for name in ("image", "text"):
    own = overrides.pop(name, None) or {}
    legal = {field.name for field in dataclasses.fields(build_tower(name, **{**base[name], **own}))}
    towers[name] = {**base[name], **{key: shared[key] for key in shared if key in legal}, **own}
  return build_from(**towers, **{**{n: v for n, v in base.items() if n not in towers}, **overrides})


def build_from(image: Mapping[str, Any], text: Mapping[str, Any], **fields: Any) -> DualEncoder:
  """The dual encoder of two towers, each a dict of overrides, maybe of a `variant` and of another `tower`.

  `fields` are DualEncoder's.

  Raises:
    ValueError: an unknown variant or field, with the nearest name.
  """
  variants.check("DualEncoder", fields, FIELDS)
  return DualEncoder(image=build_tower("image", **image), text=build_tower("text", **text), **fields)


def adapt_params(params: Params, model: DualEncoder) -> Params:
  """Parameters of a dual encoder of other resolution or text length, for this one; see the towers' adapt_params.

  Raises:
    ValueError: a name or another shape differs.
  """
  towers = {}
  for name, tower in (("image", model.image), ("text", model.text)):
    adapt = getattr(tower_of(tower)[1], "adapt_params", None)
    if adapt and name in params:
      towers[name] = adapt(params[name], tower)
  return fitting.check({**params, **towers}, model, statistics=True)
