"""Encoders of further modalities around a dual encoder of pictures and texts, in its space (ImageBind)."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax import config
from vljax.layers.linear import Linear
from vljax.models import dual_encoder, modality, variants
from vljax.models import text as text_tower
from vljax.parallel import Axis

TOWERS = {"modality": modality.build, "text": text_tower.build}
"""What may encode a further modality."""


class Encoder(nn.Module):
  """unit(tower(x) W), and the scale of its cosines with pictures (arXiv 2305.05665, section 3.2).

  Several clips of one thing, [b clips ...], give the mean of their unit vectors, which is shorter than one.

  Attributes:
    scale_init: 1 / temperature, fixed unless `learned`.
  """

  tower: nn.Module
  dim: int
  scale_init: float = 1 / 0.07
  learned: bool = False

  def setup(self):
    tower: Any = self.tower
    init = nn.initializers.normal(tower.width**-0.5)
    self.head = Linear((self.dim,), (Axis.EMBED, Axis.JOINT), init, use_bias=False, dtype=tower.dtype)
    if self.learned:
      self.log_scale = self.param("log_scale", nn.initializers.constant(math.log(self.scale_init)), ())

  def __call__(self, x: Array, *, train: bool = False) -> Float[Array, "b d"]:
    """The vectors of a batch, or of a batch of clips."""
    rank = len(self.tower.inputs()[0].shape)  # pyright: ignore[reportAttributeAccessIssue]
    if x.ndim == rank + 1:
      return self(x.reshape(-1, *x.shape[2:]), train=train).reshape(*x.shape[:2], -1).mean(1)
    return dual_encoder.unit(self.head(self.tower(x, train=train)))  # pyright: ignore[reportCallIssue]

  def scale(self) -> Float[Array, ""]:
    """What cosines are multiplied by."""
    return jnp.exp(self.log_scale) if self.learned else jnp.asarray(self.scale_init, jnp.float32)


class Bound(nn.Module):
  """`base` encodes pictures and texts, `encoders` the further modalities, each under its name."""

  base: nn.Module
  encoders: Mapping[str, nn.Module]

  def encode_image(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b d"]:
    return self.base.encode_image(image, train=train)  # pyright: ignore[reportAttributeAccessIssue]

  def encode_text(self, tokens: Array, *, train: bool = False) -> Float[Array, "b d"]:
    return self.base.encode_text(tokens, train=train)  # pyright: ignore[reportAttributeAccessIssue]

  def encode(self, name: str, x: Array, *, train: bool = False) -> Float[Array, "b d"]:
    """The vectors of a further modality's batch."""
    return self.encoders[name](x, train=train)  # pyright: ignore[reportCallIssue]

  def scale(self, name: str | None = None) -> Float[Array, ""]:
    """What cosines of a modality with pictures are multiplied by; without a name, of texts with pictures."""
    if name is None:
      return self.base.scale()  # pyright: ignore[reportAttributeAccessIssue]
    return self.encoders[name].scale()  # pyright: ignore[reportAttributeAccessIssue]

  def __call__(self, image: Array, tokens: Array, further: Mapping[str, Array]) -> dict[str, Array]:
    """All modalities once, for `init`."""
    image, text = self.base(image, tokens)  # pyright: ignore[reportCallIssue]
    return {"image": image, "text": text, **{name: self.encode(name, x) for name, x in further.items()}}

  @property
  def image(self) -> Any:
    """The tower of pictures."""
    return self.base.image  # pyright: ignore[reportAttributeAccessIssue]

  @property
  def text(self) -> Any:
    """The tower of texts."""
    return self.base.text  # pyright: ignore[reportAttributeAccessIssue]

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Any, ...]:
    """Zeros of the shapes that the model takes, for `init`."""
    further = {n: e.tower.inputs(batch)[0] for n, e in self.encoders.items()}  # pyright: ignore
    return (*self.base.inputs(batch), further)  # pyright: ignore[reportAttributeAccessIssue]


def build(base: nn.Module, encoders: Mapping[str, Mapping[str, Any]], dim: int) -> Bound:
  """The encoders around a base; of each a dict of `tower` (with `kind`, of TOWERS), `scale_init` and `learned`.

  Raises:
    ValueError: an unknown kind, variant or field, with the nearest name.
  """
  made = {}
  for name, fields in encoders.items():
    tower = dict(fields["tower"])
    make = config.choose(f"tower kind of {name!r}", tower.pop("kind", "modality"), TOWERS)
    rest = {k: v for k, v in fields.items() if k != "tower"}
    variants.check("Encoder", rest, ("scale_init", "learned"))
    made[name] = Encoder(tower=make(**tower), dim=dim, **rest)
  return Bound(base=base, encoders=made)
