"""A linear classifier on an image tower, or on the first layers of the projection head behind it."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.layers.linear import Linear
from vljax.parallel import Axis


class Classifier(nn.Module):
  """logits = features(x) @ kernel + bias, with features = the first `tap` layers of head(backbone(x)).

  SimCLRv2 fine-tunes from the first of the head's three layers (arXiv 2006.10029, section 2); SimCLR has tap = 0.
  Names are those of models.projected, so that a run starts from one of SimCLR's as it is. The classifier starts at
  zero: all classes are equally likely.

  Attributes:
    backbone: an image tower.
    head: the projection head; None has none.
    tap: so many layers of the head are kept.
    frozen: the features are not trained: the tower runs as at evaluation, with running statistics (linear evaluation).
    dropout: of the features, in training.
  """

  backbone: Any
  num_classes: int
  head: Any = None
  tap: int = 0
  frozen: bool = False
  dropout: float = 0.0

  def setup(self):
    axes = (Axis.EMBED, None)
    self.drop = nn.Dropout(self.dropout)
    self.classifier = Linear((self.num_classes,), axes, nn.initializers.zeros, dtype=self.backbone.dtype)

  def __call__(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b k"]:
    """Logits of normalized NHWC images, in float32."""
    features = self.drop(self.features(image, train=train), deterministic=not train)
    return self.classifier(features).astype(jnp.float32)

  def features(self, image: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b d"]:
    """What the classifier sees."""
    train = train and not self.frozen
    x = self.backbone(image, train=train)
    if self.head is not None and self.tap:
      x = self.head(x, train=train, tap=self.tap)
    return jax.lax.stop_gradient(x) if self.frozen else x

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Float[Array, "b h w c"]]:
    """Zeros of the shapes that the model takes, for `init`."""
    return self.backbone.inputs(batch)
