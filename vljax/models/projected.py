"""SimCLR: a backbone, the projection head that its loss sees, and a classifier that only watches."""

from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from vljax import config
from vljax.layers.batch_norm import BatchNorm
from vljax.layers.linear import Linear
from vljax.parallel import Axis

KINDS = dict.fromkeys(("none", "linear", "nonlinear"))


class Projection(nn.Module):
  """`layers` linear maps, each with batch norm, with ReLU between (SimCLR, arXiv 2002.05709, section 4.2).

  As in the released code the hidden width is the feature's, and the last norm has no bias.

  Attributes:
    kind: `none` gives the feature as it is, `linear` has one layer, `nonlinear` `layers` of them.
    dim: of the output.
  """

  kind: str = "nonlinear"
  layers: int = 2
  dim: int = 128
  dtype: Any = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "b d"], *, train: bool = False) -> Float[Array, "b k"]:
    config.choose("kind of Projection", self.kind, KINDS)
    if self.kind == "none":
      return x
    count = self.layers if self.kind == "nonlinear" else 1
    width = x.shape[-1]
    init = nn.initializers.normal(0.01)
    for i in range(count):
      last = i == count - 1
      features = self.dim if last else width
      x = Linear((features,), (Axis.EMBED, None), init, use_bias=False, dtype=self.dtype, name=f"linear_{i}")(x)
      x = BatchNorm(use_bias=not last, dtype=self.dtype, name=f"norm_{i}")(x, train=train)
      x = x if last else jax.nn.relu(x)
    return x


class Projected(nn.Module):
  """A backbone with a projection head, and maybe a linear classifier on its feature that sends no gradient back.

  Attributes:
    classes: of the classifier; 0: there is none.
  """

  backbone: nn.Module
  head: Projection
  classes: int = 0

  def setup(self):
    if self.classes:
      self.classifier = Linear((self.classes,), (Axis.EMBED, None), nn.initializers.zeros)

  def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> tuple[Array, Array | None]:
    """(projections [b k], logits [b classes] or None)."""
    x = self.features(image, train=train)
    logits = self.classifier(jax.lax.stop_gradient(x)) if self.classes else None
    return self.head(x, train=train), logits

  def features(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b d"]:
    """What downstream tasks use: the representation before the head."""
    return self.backbone(image, train=train)
