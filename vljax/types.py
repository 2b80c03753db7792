"""Array aliases and the glossary of dimension letters.

Shapes are written in jaxtyping annotations with these letters, full words for all else:

  b batch    t text positions   h w c image height, width, channels   n tokens or media
  f frames   l latents          r regions                             k heads
  d width    s key positions    v vocabulary
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped, UInt8

Params = Any
"""A nested dict of arrays, keyed by module and parameter names."""

Batch = dict[str, Any]
"""Field name to array; every array has the examples on its first axis."""

Extras = Any
"""What is neither trained nor an optimiser's: batch statistics, running means, augmentation strength."""

Metrics = dict[str, Any]
"""Name to scalar array."""

Rng = jax.Array
"""A typed key of jax.random.key."""

__all__ = [
  "Array", "Batch", "Bool", "Callable", "Extras", "Float", "Int", "Key", "Mapping", "Metrics", "Params", "PyTree",
  "Rng", "Shaped", "UInt8",
]  # fmt: skip
