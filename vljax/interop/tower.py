"""One published tower: what the readers of single encoders return, and what `config.init` takes."""

import dataclasses
from typing import Any

import flax.linen as nn

from vljax.layers.batch_norm import STATISTICS
from vljax.models import fitting


@dataclasses.dataclass
class Tower:
  """An image or a text encoder with what its weights mean.

  Attributes:
    which: `image` or `text`, its place in a dual encoder.
    config: the keyword arguments of `models.dual_encoder.build_tower`, `tower` among them.
    weights: {which: parameters}, and {"batch_stats": {which: statistics}} where it has some: named as in a dual
      encoder, float32 numpy arrays, stacked.
    preprocess: size, mean, std, interpolation, resize_mode of an image tower.
    tokenizer: the keyword arguments of `data.tokenizers.build` of a text tower; empty if the folder brings none.
    notes: what was not in the files and was taken as usual, in sentences.
  """

  which: str
  config: dict[str, Any]
  weights: dict[str, Any]
  preprocess: dict[str, Any] = dataclasses.field(default_factory=dict)
  tokenizer: dict[str, Any] = dataclasses.field(default_factory=dict)
  notes: list[str] = dataclasses.field(default_factory=list)

  @property
  def variables(self) -> dict[str, Any]:
    """What the module is applied with."""
    return {"params": self.weights[self.which], **self.statistics}

  @property
  def statistics(self) -> dict[str, Any]:
    """{"batch_stats": those of its batch norms}, or nothing."""
    return {STATISTICS: self.weights[STATISTICS][self.which]} if STATISTICS in self.weights else {}

  def check(self, model: nn.Module, where: str) -> "Tower":
    """Itself, if every name and shape of its weights is the model's.

    Raises:
      ValueError: names what differs.
    """
    fitting.check({**self.weights[self.which], **self.statistics}, model, where, statistics=bool(self.statistics))
    return self
