"""The weights that a run starts from, of a run of ours or as others published them."""

from typing import Any

from etils import epath

from vljax import interop
from vljax.checkpoint.load import load_params
from vljax.checkpoint.metadata import FILE
from vljax.data import packages
from vljax.interop import (
  bert,
  efficientnet,
  idefics,
  language,
  nfnet,
  open_flamingo,
  openai,
  published,
  timm_vit,
  torchvision,
)


def load(source: epath.PathLike) -> dict[str, Any]:
  """What an entry of `config.init` takes its leaves from: parameters, and batch statistics as `batch_stats`.

  The source is a workdir of ours, a file of a ResNet with torchvision's keys (timm's, too), what `interop.load` opens,
  or a single tower that `interop.load_tower` opens, whose names begin as in a dual encoder (`text/`, `image/`), an
  IDEFICS folder or an OpenFlamingo checkpoint, whose names begin as in a Flamingo (`resampler/`, `xattn/`).

  Raises:
    FileNotFoundError: nothing there.
    ValueError: damaged, or of no known format.
  """
  if packages.is_package(source) or bert.is_bert(epath.Path(source)) or language.is_language(source):
    return interop.load_tower(source).weights
  path = epath.Path(source)
  if idefics.is_idefics(path):
    return idefics.load(path).params
  if not published.is_published(source) and (not path.exists() or (path / FILE).exists()):
    return load_params(path)[0]
  if path.is_file():
    state = openai.read_state(path)
    if open_flamingo.is_connectors(state):
      return open_flamingo.from_state(state, str(path)).params
    if torchvision.is_resnet(state):
      return torchvision.from_state(state, str(path))[1]
    if timm_vit.is_vit(state):  # the activation is that of the run's config
      return timm_vit.from_state(state, where=str(path), content=timm_vit.said(path), activation="gelu").weights
    if efficientnet.is_efficientnet(state):
      return efficientnet.from_state(state, num_classes=None, where=str(path)).weights
    if nfnet.is_nfnet(state):
      return nfnet.from_state(state, where=str(path)).weights
  return interop.load(source).params
