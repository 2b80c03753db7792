"""NFNet weights in and out: timm's keys (dm_nfnet_*, nfnet_*, test_nfnet) and DeepMind's Haiku names (`.npz`).

The same shapes stand for three networks that differ in what no weight tells; FAMILIES says in what.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vljax import config as config_lib
from vljax import tree
from vljax.data.mean_std import MEAN_STD
from vljax.interop import haiku_reader, openai, safetensors_reader, torch_writer
from vljax.interop.names import LAYOUTS, Row, linear, need, row
from vljax.interop.tower import Tower
from vljax.models import nfnet

_TIMM: dict[str, Any] = dict(eps="timm", activation="gelu", drop_path_scaled=True)

FAMILIES: dict[str, dict[str, Any]] = {
  "haiku": {},
  "dm_nfnet": _TIMM,
  "nfnet": {**_TIMM, "gamma": "kernel", "padding": "symmetric", "skip_init": False},
}
"""Whose keys and rules to the fields in which the network differs from the paper's."""

_HAIKU = "NFNet/~/"

WRITERS = {".npz": haiku_reader, ".safetensors": safetensors_reader, ".pt": torch_writer, ".pth": torch_writer}

_CONVS = {
  "conv_1": ("conv1", "conv0"), "conv_2": ("conv2", "conv1"), "conv_2b": ("conv2b", "conv1b"),
  "conv_3": ("conv3", "conv2"), "conv_shortcut": ("downsample.conv", "conv_shortcut"),
}  # fmt: skip
"""Of a block: our name to timm's and to Haiku's."""

_SE = {
  "squeeze": ("attn_last.fc1", "squeeze_excite/~/linear"), "excite": ("attn_last.fc2", "squeeze_excite/~/linear_1"),
}  # fmt: skip


def load(path: epath.PathLike, *, num_classes: int | None = None, family: str | None = None) -> Tower:
  """Read a file of weights; sizes show in their shapes.

  Args:
    num_classes: 1000 keeps ImageNet's classifier; None drops it.
    family: a key of FAMILIES; None takes `haiku` of Haiku's names, of timm's keys `dm_nfnet` where there are gains of
      SkipInit, else `nfnet`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a broken file, another architecture, or a missing or unknown key.
  """
  return from_state(openai.read_state(path), num_classes=num_classes, family=family, where=str(path))


def save(path: epath.PathLike, tower: Tower) -> None:
  """Write `.npz` with Haiku's names, or `.safetensors`, `.pt` or `.pth` with timm's keys.

  Raises:
    ValueError: another ending.
  """
  writer = config_lib.choose("ending of a file of NFNet weights", epath.Path(path).suffix, WRITERS)
  writer.write(path, to_state(tower, haiku=writer is haiku_reader))


def is_nfnet(state: Mapping[str, np.ndarray]) -> bool:
  """Whether a state dict has the keys of such a network."""
  return any(f"{first}gain" in state for first in ("stem.conv1.", f"{_HAIKU}stem_conv0/"))


def from_state(
  state: Mapping[str, np.ndarray], *, where: str, num_classes: int | None = None, family: str | None = None
) -> Tower:
  """`load` of a state dict that is read already; keys of Haiku are `module/parameter`."""
  haiku = any(key.startswith(_HAIKU) for key in state)
  skips = any("skip" in key for key in state)
  family = family or ("haiku" if haiku else "dm_nfnet" if skips else "nfnet")
  rules = config_lib.choose("family of NFNet weights", family, FAMILIES)
  table = list(rows(find_depths(state, haiku, where), haiku, skips, num_classes is not None))
  legal = {r.theirs for r in table} | {r.theirs for r in _classifier(haiku)}
  if unknown := set(state) - legal:
    raise ValueError(f"{where}: the key {min(unknown)!r} is unknown; an NFNet has no such part")
  flat = {r.ours[0]: _ours(r, state, where) for r in table}
  config = {**infer(flat), **rules, "num_classes": num_classes}
  notes = []
  if flat["stage_0/first/conv_2/kernel"].shape[2] != 128:
    config["activation"] = "silu"
    notes.append(f"{where} does not tell its activation; silu is taken, which timm's small models have")
  model = nfnet.build(**config)
  mean, std = MEAN_STD["imagenet"]
  resize = "shortest" if family == "nfnet" else "squash"
  preprocess = dict(mean=mean, std=std, interpolation="bicubic", resize_mode=resize, size=model.image_size)
  weights = {"image": tree.stack(flat)}
  return Tower("image", {"tower": "nfnet", **config}, weights, preprocess=preprocess, notes=notes).check(model, where)


def to_state(tower: Tower, *, haiku: bool) -> dict[str, np.ndarray]:
  """The state dict of a tower with Haiku's names or timm's keys."""
  model = nfnet.build(**{name: value for name, value in tower.config.items() if name != "tower"})
  flat = {name: np.asarray(array) for name, array in tree.unstack(tower.weights["image"]).items()}
  table = rows(model.depths, haiku, model.skip_init, model.num_classes is not None)
  return {r.theirs: np.asarray(LAYOUTS[r.layout].theirs(flat[r.ours[0]]), order="C") for r in table}


def find_depths(state: Mapping[str, np.ndarray], haiku: bool, where: str) -> tuple[int, ...]:
  """Blocks of each stage; Haiku numbers them all in a row, and those with a convolution as shortcut begin a stage.

  Raises:
    ValueError: there are none.
  """
  if haiku:
    count = sum(key.endswith("/conv0/w") for key in state)
    first = [i for i in range(count) if f"{_block(0, 0, i, True)}conv_shortcut/w" in state]
    depths = tuple(b - a for a, b in itertools.pairwise([*first, count]))
  else:
    places = [int(m[1]) for key in state if (m := re.fullmatch(r"stages\.(\d+)\.\d+\.conv1\.weight", key))]
    depths = tuple(places.count(stage) for stage in range(1 + max(places, default=-1)))
  if not depths or 0 in depths:
    raise ValueError(f"{where} is no NFNet: its stages have {depths or 'no'} blocks")
  return depths


def infer(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """The variant, or the sizes, as fields of NFNet, that the shapes of our unstacked parameters tell."""
  shape = lambda name: flat[f"{name}/kernel"].shape
  stages = [name.split("/")[0] for name in flat if name.endswith("/conv_1/bias")]
  depths = [stages.count(f"stage_{i}") for i in range(len(set(stages)))]
  widths = tuple(shape(f"stage_{i}/first/conv_3")[-1] for i in range(len(depths)))
  inner = [shape(f"stage_{i}/first/conv_2")[-1] for i in range(len(depths))]
  found = dict(
    depths=tuple(depths),
    widths=widths,
    stem=tuple(shape(f"stem_conv_{i}")[-1] for i in range(4)),
    head=shape("final")[-1],
    group_width=shape("stage_0/first/conv_2")[2],
    bottleneck=max(a / b for a, b in zip(inner, widths, strict=True)),  # each is rounded down to whole groups
    se_ratio=shape("stage_0/first/se/squeeze")[-1] / widths[0],
  )
  for name in nfnet.VARIANTS:
    model = nfnet.build(name)
    if {**{field: getattr(model, field) for field in found}, "head": model.width} == found:
      return {"variant": name}
  return found


def rows(depths: Sequence[int], haiku: bool, skips: bool, classifier: bool) -> Iterator[Row]:
  """Every parameter of a network: our unstacked name, their key, the layout."""
  place = itertools.count()
  for i in range(4):
    yield from _conv(f"stem_conv_{i}", f"{_HAIKU}stem_conv{i}/" if haiku else f"stem.conv{i + 1}.", haiku)
  for stage, depth in enumerate(depths):
    for i in range(depth):
      ours = f"stage_{stage}/" + (f"blocks/{i - 1}" if i else "first")
      theirs = _block(stage, i, next(place), haiku)
      for name, part in _CONVS.items():
        if name != "conv_shortcut" or i == 0:
          yield from _conv(f"{ours}/{name}", f"{theirs}{part[haiku]}/" if haiku else f"{theirs}{part[haiku]}.", haiku)
      for name, part in _SE.items():
        yield from _dense(f"{ours}/se/{name}", theirs + part[haiku], haiku, "pointwise")
      if skips:
        yield row(f"{ours}/skip_gain", f"{theirs[:-2]}skip_gain" if haiku else f"{theirs}skipinit_gain")
  yield from _conv("final", f"{_HAIKU}final_conv/" if haiku else "final_conv.", haiku)
  if classifier:
    yield from _classifier(haiku)


def _block(stage: int, place: int, number: int, haiku: bool) -> str:
  """What the keys of a block begin with."""
  if haiku:
    return f"{_HAIKU}nf_block_{number}/~/" if number else f"{_HAIKU}nf_block/~/"
  return f"stages.{stage}.{place}."


def _classifier(haiku: bool) -> list[Row]:
  return _dense("classifier", f"{_HAIKU}linear" if haiku else "head.fc", haiku, "linear")


def _conv(ours: str, theirs: str, haiku: bool) -> list[Row]:
  kernel = row(f"{ours}/kernel", f"{theirs}w") if haiku else row(f"{ours}/kernel", f"{theirs}weight", "conv")
  gain = row(f"{ours}/gain", f"{theirs}gain", "same" if haiku else "gain")
  return [kernel, gain, row(f"{ours}/bias", f"{theirs}bias")]


def _dense(ours: str, theirs: str, haiku: bool, layout: str) -> list[Row]:
  if haiku:
    return [row(f"{ours}/kernel", f"{theirs}/w"), row(f"{ours}/bias", f"{theirs}/b")]
  return linear(ours, theirs, layout)


def _ours(r: Row, state: Mapping[str, np.ndarray], where: str) -> np.ndarray:
  array = np.asarray(need(state, r.theirs, where), np.float32)
  return np.asarray(LAYOUTS[r.layout].ours(array, 1), order="C")
