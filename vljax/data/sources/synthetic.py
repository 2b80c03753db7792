"""`synthetic:pairs`: colored shapes on colored ground with captions that say what, where and how large."""

from typing import Any

import numpy as np

from vljax import config
from vljax.data.sources.source import Source

COLORS = {
  "red": (214, 39, 40), "green": (44, 160, 44), "blue": (31, 119, 220), "yellow": (240, 210, 40),
  "purple": (148, 80, 200), "orange": (255, 127, 14), "black": (20, 20, 20), "white": (245, 245, 245),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
PLACES = {
  "in the middle": (0.0, 0.0), "at the top": (0.0, -0.4), "at the bottom": (0.0, 0.4),
  "on the left": (-0.4, 0.0), "on the right": (0.4, 0.0),
}  # fmt: skip
SIZES = {"small": 0.28, "large": 0.52}


class Synthetic(Source):
  """Endless variety is not meant: 6 shapes x 8 colors x 7 grounds x 5 places x 2 sizes, each with a slight shift.

  Example i depends on the seed and i alone. `class` is the shape.
  """

  classes = SHAPES

  def __init__(self, path: str = "pairs", *, n: int = 1000, size: int = 32, seed: int = 0):
    """Raises ValueError for another path than `pairs`, or numbers that are not positive."""
    config.choose("synthetic set", path, {"pairs": None})
    if n < 1 or size < 8:
      raise ValueError(f"synthetic:pairs?n={n}&size={size}: n must be 1 or more, size 8 or more")
    self.name, self.n, self.size, self.seed = f"synthetic:{path}", n, size, seed
    self.class_field = "shape"

  def __len__(self) -> int:
    return self.n

  def fields(self, index: int) -> dict[str, Any]:
    return self._traits(np.random.default_rng((self.seed, index)), index)

  def image(self, index: int) -> np.ndarray:
    return self.record(index)[1]

  def record(self, index: int) -> tuple[dict[str, Any], np.ndarray]:
    rng = np.random.default_rng((self.seed, index))
    fields = self._traits(rng, index)
    x, y = np.array(PLACES[fields["place"]]) + rng.uniform(-0.08, 0.08, 2)
    radius, across = SIZES[fields["extent"]], np.linspace(-1, 1, self.size)
    inside = mask(fields["shape"], (across[None, :] - x) / radius, (across[:, None] - y) / radius)
    colors = np.array([COLORS[fields["ground"]], COLORS[fields["color"]]], np.uint8)
    return fields, colors[inside.astype(np.intp)]

  def _traits(self, rng: np.random.Generator, index: int) -> dict[str, Any]:
    numbers = rng.integers([len(SHAPES), len(COLORS), len(COLORS) - 1, len(PLACES), len(SIZES)]).tolist()
    shape, color, ground, place, extent = numbers
    return {
      "key": f"{self.seed}-{index}",
      "shape": SHAPES[shape],
      "color": list(COLORS)[color],
      "ground": list(COLORS)[(color + 1 + ground) % len(COLORS)],
      "place": list(PLACES)[place],
      "extent": list(SIZES)[extent],
    }

  def captions(self, index: int, fields: Any) -> list[str]:
    thing = f"{fields['extent']} {fields['color']} {fields['shape']}"
    return [f"a {thing} {fields['place']} of a {fields['ground']} picture", f"{thing} on {fields['ground']}"]


def mask(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Which points [h w] lie in the shape of radius 1 about the origin; x [1 w] to the right, y [h 1] down."""
  if shape == "circle":
    return x**2 + y**2 < 1
  if shape == "ring":
    return (x**2 + y**2 < 1) & (x**2 + y**2 > 0.3)
  if shape == "square":
    return np.maximum(abs(x), abs(y)) < 0.85
  if shape == "diamond":
    return abs(x) + abs(y) < 1
  if shape == "triangle":
    return (abs(x) < (y + 1) / 2) & (y < 0.9)
  return (np.minimum(abs(x), abs(y)) < 0.3) & (np.maximum(abs(x), abs(y)) < 1)
