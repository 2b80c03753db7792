"""EfficientNet state dicts of the package efficientnet-pytorch (and its Lite sibling) and of timm's `tf_` models."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax import tree
from vljax.interop import safetensors_reader, torch_reader
from vljax.interop.names import LAYOUTS, Row, linear, need, row
from vljax.interop.tower import Tower
from vljax.layers.batch_norm import STATISTICS
from vljax.models import efficientnet
from vljax.models.efficientnet import EfficientNet

PREPROCESS = dict(mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic", resize_mode="shortest")
"""Of the Lite models, (x - 127) / 128; the others were trained with ImageNet's mean and deviation."""

IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def load(path: epath.PathLike, *, num_classes: int | None = None) -> Tower:
  """Read a file of weights; the variant shows in their shapes.

  Args:
    num_classes: 1000 keeps ImageNet's classifier; None drops it.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a broken file, shapes of no variant, or a missing or unknown key.
  """
  path = epath.Path(path)
  reader = safetensors_reader if path.suffix == ".safetensors" else torch_reader
  return from_state(reader.state_dict(path), num_classes=num_classes, where=str(path))


def from_state(state: Mapping[str, np.ndarray], *, num_classes: int | None, where: str) -> Tower:
  """`load` of a state dict that is read already."""
  variant = find_variant(state, where)
  config: dict[str, Any] = dict(variant=variant, num_classes=num_classes)
  model = efficientnet.build(**config)
  table = list(rows(model, timm="conv_stem.weight" in state))
  flat = {name: _ours(r, state, where) for r in table for name in r.ours}
  rest = set(state) - {r.theirs for r in table}
  unknown = [key for key in rest if not key.endswith("num_batches_tracked") and key.split(".")[0] not in CLASSIFIERS]
  if unknown:
    raise ValueError(f"{where}: the key {min(unknown)!r} is unknown; EfficientNet {variant} has no such part")
  nested = tree.unflatten(flat)
  preprocess = {**PREPROCESS, **({} if model.lite else IMAGENET), "size": model.image_size}
  weights = {"image": nested["params"], STATISTICS: {"image": nested[STATISTICS]}}
  return Tower("image", {"tower": "efficientnet", **config}, weights, preprocess=preprocess).check(model, where)


def is_efficientnet(state: Mapping[str, np.ndarray]) -> bool:
  """Whether a state dict has the keys of such a network."""
  return "_conv_stem.weight" in state or "conv_stem.weight" in state


CLASSIFIERS = ("_fc", "classifier")


def find_variant(state: Mapping[str, np.ndarray], where: str) -> str:
  """The variant with these shapes.

  Raises:
    ValueError: there is none.
  """
  timm = "conv_stem.weight" in state
  head = need(state, "conv_head.weight" if timm else "_conv_head.weight", where).shape[0]
  count = sum(key.endswith(("conv_dw.weight", "_depthwise_conv.weight")) for key in state)
  lite = not any("_se_reduce" in key or ".se." in key for key in state)
  for name in efficientnet.VARIANTS:
    model = efficientnet.build(name)
    last = next(r for r in rows(model, timm) if r.ours[0] == f"params/{model.blocks()[-1][0]}/project/kernel")
    width = model.blocks()[-1][1]["features"]
    found = state.get(last.theirs)
    if (model.lite, model.width, len(model.blocks())) == (lite, head, count) and found is not None \
        and found.shape[0] == width:  # fmt: skip
      return name
  raise ValueError(f"{where}: {count} blocks with a head of {head} channels are none of EfficientNet's variants")


def rows(model: EfficientNet, timm: bool) -> Iterator[Row]:
  """Every parameter and statistic of a model: our name below `params` or `batch_stats`, their key, the layout."""
  yield from _unit("stem", "conv_stem" if timm else "_conv_stem", "bn1" if timm else "_bn0", sub="_conv")
  for number, (name, fields) in enumerate(model.blocks()):
    stage, place = name.split("_")[1:]
    prefix = f"blocks.{stage}.{place}." if timm else f"_blocks.{number}."
    parts = _timm(fields["expansion"] > 1) if timm else _PACKAGE
    for part, (conv, norm) in parts.items():
      if part != "expand" or fields["expansion"] > 1:
        yield from _unit(f"{name}/{part}", prefix + conv, prefix + norm)
    if fields["squeeze"]:
      for part, theirs in zip(("squeeze", "excite"), _SE[timm], strict=True):
        yield from linear(f"params/{name}/{part}", prefix + theirs, "conv")
  if model.head:
    yield from _unit("head", "conv_head" if timm else "_conv_head", "bn2" if timm else "_bn1", sub="_conv")
  if model.num_classes is not None:
    yield from linear("params/classifier", "classifier" if timm else "_fc")


_SE = {True: ("se.conv_reduce", "se.conv_expand"), False: ("_se_reduce", "_se_expand")}

_PACKAGE = {
  "expand": ("_expand_conv", "_bn0"),
  "depthwise": ("_depthwise_conv", "_bn1"),
  "project": ("_project_conv", "_bn2"),
}


def _timm(expands: bool) -> dict[str, tuple[str, str]]:
  if not expands:
    return {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
  return {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}


def _unit(ours: str, conv: str, norm: str, sub: str = "") -> Iterator[Row]:
  """A convolution and the norm behind it."""
  yield row(f"params/{ours}{sub}/kernel", f"{conv}.weight", "conv")
  for place, name, theirs in (
    ("params", "scale", "weight"), ("params", "bias", "bias"), (STATISTICS, "mean", "running_mean"),
    (STATISTICS, "variance", "running_var"),
  ):  # fmt: skip
    yield row(f"{place}/{ours}_norm/{name}", f"{norm}.{theirs}")


def _ours(r: Row, state: Mapping[str, np.ndarray], where: str) -> np.ndarray:
  array = np.asarray(need(state, r.theirs, where), np.float32)
  return np.asarray(LAYOUTS[r.layout].ours(array, 1), order="C")
