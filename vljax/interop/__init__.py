"""Published checkpoints in and out, one file per format; nothing that a file holds is ever run."""

from collections.abc import Callable
from typing import Any

from etils import epath

from vljax import config
from vljax.data import packages
from vljax.interop import (
  bert,
  big_vision,
  efficientnet,
  hugging_face,
  language,
  nfnet,
  open_clip,
  openai,
  published,
  siglip,
  timm_vit,
  torchvision,
)
from vljax.interop.imported import Imported
from vljax.interop.published import list_published
from vljax.interop.tower import Tower

FORMATS: dict[str, Any] = {
  "hf": hugging_face, "siglip": siglip, "openai": openai, "open_clip": open_clip, "big_vision": big_vision,
}  # fmt: skip
"""Format to the module with its `load` and `save`."""

__all__ = [
  "FORMATS", "Imported", "Tower", "detect", "list_published", "load", "load_tower", "save",
]  # fmt: skip


def load(source: epath.PathLike, *, format: str | None = None, activation: str | None = None) -> Imported:
  """A published dual encoder: a folder or file of one of FORMATS, or a published name (`openai:ViT-B-32`).

  Args:
    format: a key of FORMATS; None finds out.
    activation: where the source does not tell, or tells wrongly.

  Raises:
    FileNotFoundError: there is no such path, or a published file is neither cached nor within reach.
    ValueError: no known format, or what the format's reader raises.
  """
  if published.is_published(source):
    entry = published.find(str(source))
    source = published.fetch(entry)
    format = format or (detect(source) if entry.repository else entry.format)
  format = format or detect(source)
  options = {} if activation is None else {"activation": activation}
  return config.choose("checkpoint format", format, FORMATS).load(source, **options)


def load_tower(source: epath.PathLike, **options: Any) -> Tower:
  """One published encoder: a BertModel's folder, weights of a ResNet, ViT, NFNet or EfficientNet as timm and others
  have them, a timm folder of the hub, or `package:NAME` that holds any of these.

  Args:
    options: of the kind's reader, such as `activation` of a ViT whose files do not tell it.

  Raises:
    FileNotFoundError: there is no such path, or the package is not installed; gives the command.
    ValueError: what the reader raises.
  """
  path = packages.resolve(source)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist")
  if bert.is_bert(path):
    return bert.load(path, **options)
  if language.is_language(path):
    return language.load(path, **options)
  file = hugging_face.find_weights(path) if path.is_dir() else path
  state, where = openai.read_state(file), str(file)
  if timm_vit.is_vit(state):
    return timm_vit.from_state(state, where=where, content=timm_vit.said(file), **options)
  if torchvision.is_resnet(state):
    return torchvision.tower(state, where, **options)
  if nfnet.is_nfnet(state):
    return nfnet.from_state(state, where=where, **options)
  return efficientnet.from_state(state, **{"num_classes": None, **options}, where=where)


def save(path: epath.PathLike, imported: Imported, format: str) -> list[str]:
  """Write a dual encoder in one of FORMATS; returns what was left out, in sentences.

  Raises:
    ValueError: an unknown format, or one that cannot hold the model.
  """
  write: Callable[..., list[str]] = config.choose("checkpoint format", format, FORMATS).save
  return write(path, imported)


def detect(path: epath.PathLike) -> str:
  """The format of a folder or file.

  Folders are known by their files' names. A `.pt` without a config beside it counts as OpenAI's, which notes that
  QuickGELU was taken; other weights without a config, and training checkpoints, count as open_clip's, which refuses
  them unless the activation is given.

  Raises:
    FileNotFoundError: there is no such path.
    ValueError: no known format, or a damaged config.json; says what was found.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist")
  folder = path if path.is_dir() else path.parent
  if (path.is_dir() or path.name in hugging_face.WEIGHTS) and hugging_face.is_clip(folder):
    return "hf"
  if (path.is_dir() or path.name in siglip.WEIGHTS) and siglip.is_siglip(folder):
    return "siglip"
  if (folder / open_clip.CONFIG).exists() and (path.is_dir() or path.name in open_clip.WEIGHTS):
    return "open_clip"
  if path.is_dir():
    found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    raise ValueError(
      f"{path} is no known checkpoint: it holds neither the config.json of a CLIPModel or SiglipModel nor "
      f"{open_clip.CONFIG}; found {found}"
    )
  if path.suffix == big_vision.SUFFIX:
    return "big_vision"
  return "openai" if path.suffix == ".pt" and not openai.is_training_checkpoint(path) else "open_clip"
