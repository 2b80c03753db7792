"""Published language models: GGUF files, and folders of Hugging Face, here or on the hub."""

from etils import epath

from vljax.data import packages
from vljax.interop import gguf, language_models, published
from vljax.interop.tower import Tower


def is_language(source: epath.PathLike) -> bool:
  """Whether a path, `package:NAME` or published name holds a language model.

  Raises:
    FileNotFoundError: the package is not installed, or a published file is neither cached nor within reach.
  """
  place = find(source)
  return place is not None and (gguf.is_gguf(place) or language_models.is_language_model(place))


def load(source: epath.PathLike) -> Tower:
  """Its configuration, weights and tokenizer.

  Raises:
    FileNotFoundError, ValueError: as `gguf.load` and `language_models.load`.
  """
  place = find(source)
  if place is None:
    raise ValueError(f"{source} names no language model; legal: a .gguf file, a folder, hf:ORG/NAME, package:NAME")
  return gguf.load(place) if gguf.is_gguf(place) else language_models.load(place)


def find(source: epath.PathLike) -> epath.Path | None:
  """Where the files of a source lie; None for published names of kinds that hold no language model."""
  if not published.is_published(source):
    return packages.resolve(source)
  entry = published.find(str(source))
  return published.fetch(entry) if entry.format == "hf" and entry.repository else None
