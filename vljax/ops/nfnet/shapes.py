"""Shapes of convolutions in real NFNets, for tests and benchmarks alike."""

from typing import NamedTuple


class Shape(NamedTuple):
  """Pixels per side of the input, its channels, output channels, kernel, stride, groups; the batch is the caller's."""

  size: int
  channels: int
  features: int
  kernel: int = 3
  stride: int = 1
  groups: int = 1


SHAPES = {
  "F0/stem_3": Shape(96, 64, 128, 3, 2),
  "F0/stage_0/conv_2": Shape(48, 128, 128),
  "F0/stage_1/conv_2, first": Shape(48, 256, 256, 3, 2, 2),
  "F0/stage_1/conv_2": Shape(24, 256, 256, 3, 1, 2),
  "F0/stage_2/conv_1": Shape(12, 1536, 768, 1),
  "F0/stage_2/conv_2, first": Shape(24, 768, 768, 3, 2, 6),
  "F0/stage_2/conv_2": Shape(12, 768, 768, 3, 1, 6),
  "F0/stage_2/conv_3": Shape(12, 768, 1536, 1),
  "F0/stage_3/conv_2": Shape(6, 768, 768, 3, 1, 6),
  "F0/final": Shape(6, 1536, 3072, 1),
  "F6 at 288/stage_2/conv_2": Shape(18, 768, 768, 3, 1, 6),
  "F0+/stage_2/conv_2": Shape(12, 1024, 1024, 3, 1, 8),
}
"""Variant and layer to shape, at F0's training size of 192 pixels unless said."""
