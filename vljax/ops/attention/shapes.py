"""Shapes of attention in real models, for tests and benchmarks alike."""

from typing import NamedTuple


class Shape(NamedTuple):
  """Queries, keys, query heads, key heads, head dimension, and whether it is causal; the batch is the caller's."""

  queries: int
  keys: int
  heads: int
  kv_heads: int
  dim: int
  causal: bool = False


def _self(length: int, heads: int, dim: int = 64, causal: bool = False) -> Shape:
  return Shape(length, length, heads, heads, dim, causal)


SHAPES = {
  "small/image": _self(65, 3),
  "small/text": _self(24, 2, causal=True),
  "ViT-B-32/image": _self(50, 12),
  "ViT-B-16/image": _self(197, 12),
  "ViT-L-14/image": _self(257, 16),
  "ViT-L-14-336/image": _self(577, 16),
  "ViT-H-14/image": _self(257, 16, 80),
  "ViT-g-14/image": _self(257, 16, 88),
  "ViT-bigG-14/image": _self(257, 16, 104),
  "CLIP/text": _self(77, 8, causal=True),
  "ViT-H-14/text": _self(77, 16, causal=True),
  "ViT-bigG-14/text": _self(77, 20, causal=True),
  "Flamingo/resampler": Shape(64, 64 + 577, 8, 8, 64),
  "Flamingo/cross": Shape(256, 5 * 64, 16, 16, 128),
  "LM/grouped": Shape(2048, 2048, 32, 8, 128, True),
}
"""Model and tower to shape: CLIP's towers, Flamingo's resampler and media attention, a grouped-query decoder."""
