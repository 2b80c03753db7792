"""Prompt templates and class names for zero-shot classification, stated as data.

Sources: the 80 and the 7 ImageNet templates are those of OpenAI's notebook `Prompt_Engineering_for_ImageNet.ipynb`
(github.com/openai/CLIP, MIT License, Copyright (c) 2021 OpenAI), as open_clip 3.3.0 ships them; the flower template is
that of CLIP (arXiv 2103.00020, section 3.1.4), the flower names are those of TensorFlow's flower_photos. The other
sets and their source stand in `evaluate.benchmarks` and `evaluate.imagenet_shifts`.
"""

import re
from collections.abc import Sequence

from vljax import config
from vljax.evaluate import benchmarks
from vljax.evaluate.imagenet import IMAGENET
from vljax.evaluate.imagenet_shifts import IMAGENET_A, IMAGENET_R, OBJECTNET, OBJECTNET_FOLDERS

_IMAGENET_80 = """
a bad photo of a {}.
a photo of many {}.
a sculpture of a {}.
a photo of the hard to see {}.
a low resolution photo of the {}.
a rendering of a {}.
graffiti of a {}.
a bad photo of the {}.
a cropped photo of the {}.
a tattoo of a {}.
the embroidered {}.
a photo of a hard to see {}.
a bright photo of a {}.
a photo of a clean {}.
a photo of a dirty {}.
a dark photo of the {}.
a drawing of a {}.
a photo of my {}.
the plastic {}.
a photo of the cool {}.
a close-up photo of a {}.
a black and white photo of the {}.
a painting of the {}.
a painting of a {}.
a pixelated photo of the {}.
a sculpture of the {}.
a bright photo of the {}.
a cropped photo of a {}.
a plastic {}.
a photo of the dirty {}.
a jpeg corrupted photo of a {}.
a blurry photo of the {}.
a photo of the {}.
a good photo of the {}.
a rendering of the {}.
a {} in a video game.
a photo of one {}.
a doodle of a {}.
a close-up photo of the {}.
a photo of a {}.
the origami {}.
the {} in a video game.
a sketch of a {}.
a doodle of the {}.
a origami {}.
a low resolution photo of a {}.
the toy {}.
a rendition of the {}.
a photo of the clean {}.
a photo of a large {}.
a rendition of a {}.
a photo of a nice {}.
a photo of a weird {}.
a blurry photo of a {}.
a cartoon {}.
art of a {}.
a sketch of the {}.
a embroidered {}.
a pixelated photo of a {}.
itap of the {}.
a jpeg corrupted photo of the {}.
a good photo of a {}.
a plushie {}.
a photo of the nice {}.
a photo of the small {}.
a photo of the weird {}.
the cartoon {}.
art of the {}.
a drawing of the {}.
a photo of the large {}.
a black and white photo of a {}.
the plushie {}.
a dark photo of a {}.
itap of a {}.
graffiti of the {}.
a toy {}.
itap of my {}.
a photo of a cool {}.
a photo of a small {}.
a tattoo of the {}.
"""

_IMAGENET_7 = """
itap of a {}.
a bad photo of the {}.
a origami {}.
a photo of the large {}.
a {} in a video game.
art of the {}.
a photo of the small {}.
"""

TEMPLATES: dict[str, tuple[str, ...]] = {
  "name": ("{}",),
  "photo": ("a photo of a {}.",),
  "flowers": ("a photo of a {}, a type of flower.",),
  "imagenet_7": tuple(_IMAGENET_7.strip().splitlines()),
  "imagenet_80": tuple(_IMAGENET_80.strip().splitlines()),
  **benchmarks.TEMPLATES,
}

CLASS_NAMES: dict[str, tuple[str, ...]] = {
  "imagenet": IMAGENET,
  "imagenet_a": IMAGENET_A,
  "imagenet_r": IMAGENET_R,
  "objectnet": OBJECTNET,
  "flowers": ("daisy", "dandelion", "rose", "sunflower", "tulip"),
  **benchmarks.NAMES,
}


def templates(name: str) -> tuple[str, ...]:
  """A set of templates, each with one `{}`.

  Raises:
    ValueError: no such set, with the nearest name.
  """
  return config.choose("prompt templates", name, TEMPLATES)


def usual(data_set: str | None) -> tuple[str, ...]:
  """The templates that go with the class names of a data set; one plain prompt where it has none of its own."""
  own = "imagenet_80" if data_set in ("imagenet", "imagenet_a", "imagenet_r", "objectnet") else data_set
  return TEMPLATES.get(own or "photo", TEMPLATES["photo"])


def class_names(name: str) -> tuple[str, ...]:
  """The class names of a data set in the order of its labels.

  Raises:
    ValueError: no such data set, with the nearest name.
  """
  return config.choose("class names", name, CLASS_NAMES)


def names_for(classes: Sequence[str], data_set: str) -> tuple[str, ...]:
  """The names of a data set for the classes of a source, in the source's order.

  Classes that are spelled alike but for case, `_` and `-` are matched by name. Where not all are, numbers are the
  data set's labels, from 0 and with gaps where the source lacks classes; where none is, the source counts as being in
  the order of the labels.

  Raises:
    ValueError: no such data set, a number that is no label, another number of classes, or only some of them are
      spelled alike; names the first.
  """
  names = class_names(data_set)
  plain = lambda text: re.sub(r"[\W_]+", " ", text).strip().lower()
  spelled = {plain(name): name for name in names}
  if data_set == "objectnet":
    spelled |= {plain(folder): name for folder, name in OBJECTNET_FOLDERS.items()}
  found = [spelled.get(plain(c)) for c in classes]
  if None in found and all(c.isdecimal() for c in classes):
    for c in classes:
      if int(c) >= len(names):
        raise ValueError(f"the source's class {c!r} is no label of {data_set}; legal: 0 to {len(names) - 1}")
    return tuple(names[int(c)] for c in classes)
  if len(classes) != len(names):
    raise ValueError(f"{data_set} has {len(names)} classes, the source {len(classes)}")
  if not any(found):
    return names
  if None in found:
    raise ValueError(f"the source's class {classes[found.index(None)]!r} is none of {data_set}, though others are")
  return tuple(name for name in found if name)
