"""A language model that sees, as others published it: what the readers of IDEFICS and OpenFlamingo return."""

import dataclasses
from typing import Any

import numpy as np
from etils import epath

from vljax.models import fitting, flamingo

CONNECTORS = ("resampler", "xattn")
"""The parts that make a language model see."""


@dataclasses.dataclass
class Seeing:
  """A whole Flamingo, or only its connectors, with what the weights mean.

  Attributes:
    config: the keyword arguments of `models.flamingo.build_from`, or those of the connectors among them.
    params: part to the nested, stacked tree of float32 numpy arrays.
    rest: arrays of theirs that the model has no use for, kept so that they can be written again.
    preprocess: size, mean, std, interpolation, resize_mode.
    tokenizer: the keyword arguments of `data.tokenizers.build`; empty if the files bring none.
    notes: what was not in the files and was taken as usual, in sentences.
  """

  config: dict[str, Any]
  params: dict[str, Any]
  rest: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  preprocess: dict[str, Any] = dataclasses.field(default_factory=dict)
  tokenizer: dict[str, Any] = dataclasses.field(default_factory=dict)
  notes: list[str] = dataclasses.field(default_factory=list)

  def model(self) -> flamingo.Flamingo:
    """The module that the parameters are of.

    Raises:
      ValueError: there are only connectors.
    """
    if "lm" not in self.config:
      raise ValueError(f"only {' and '.join(self.config)}: they need a language model and a vision encoder")
    return flamingo.build_from(**self.config)

  def check(self, where: epath.PathLike) -> "Seeing":
    """Itself, if every name and shape is the model's.

    Raises:
      ValueError: names what differs.
    """
    fitting.check(self.params, self.model(), str(where))
    return self
