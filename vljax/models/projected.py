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
  def __call__(self, x: Float[Array, "b d"], *, train: bool = False, tap: int | None = None) -> Float[Array, "b k"]:
    """What the first `tap` layers give, with ReLU where more follow; None means all of them.

    Raises:
      ValueError: an unknown kind, or more layers asked for than there are.
    """
    config.choose("kind of Projection", self.kind, KINDS)
    count = {"none": 0, "linear": 1, "nonlinear": self.layers}[self.kind]
    tap = count if tap is None else tap
    if not 0 <= tap <= count:
      raise ValueError(f"tap = {tap} layers of a {self.kind} head; legal: 0 to {count}")
    width = x.shape[-1]
    init = nn.initializers.normal(0.01)
    for i in range(tap):
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

  backbone: Any
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

  def logits(self, image: Float[Array, "b h w c"]) -> Float[Array, "b classes"]:
    """What the classifier says of pictures, normalized as at evaluation; one without classes has none."""
    return self.classifier(self.features(image))

  def features(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b d"]:
    """What downstream tasks use: the representation before the head."""
    return self.backbone(image, train=train)

  def project(self, features: Float[Array, "b d"]) -> Float[Array, "b k"]:
    """What the loss sees of features, normalized as at evaluation."""
    return self.head(features)

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Float[Array, "b h w c"]]:
    """Zeros of the shapes that the model takes, for `init`."""
    return self.backbone.inputs(batch)
