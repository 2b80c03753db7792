"""Shapes of resamplers in real models, for tests and benchmarks alike."""

from typing import NamedTuple


class Shape(NamedTuple):
  """Latents, tokens of a medium (frames times positions), heads, head dimension; the batch is the caller's."""

  latents: int
  tokens: int
  heads: int
  dim: int


SHAPES = {
  "small": Shape(16, 64, 4, 32),
  "Flamingo/image": Shape(64, 100, 16, 128),
  "Flamingo/8 frames": Shape(64, 800, 16, 128),
  "Flamingo/30 frames": Shape(64, 3000, 16, 128),
  "OpenFlamingo/ViT-L-14": Shape(64, 256, 8, 64),
  "IDEFICS/ViT-H-14": Shape(64, 257, 16, 96),
}
"""NFNet-F6 gives 10 x 10 positions of a picture of 320 x 320 pixels."""
