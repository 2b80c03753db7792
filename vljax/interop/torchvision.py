"""ResNets with torchvision's keys, which timm and most SimCLR code in torch share, in and out."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax import config as config_lib
from vljax import tree
from vljax.data.mean_std import MEAN_STD
from vljax.interop import names, openai, safetensors_reader, torch_writer
from vljax.interop.tower import Tower
from vljax.layers.batch_norm import STATISTICS, variables
from vljax.models import fitting, resnet

LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
"""Of a batch norm, their leaves to ours."""

Arrays = Mapping[str, np.ndarray]


def load(path: epath.PathLike, *, prefix: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
  """Read a ResNet from a `.pt`, `.pth`, `.bin` or `.safetensors`.

  Args:
    prefix: of the keys that are the network's, such as `backbone.`; others are left out.

  Returns:
    (keyword arguments of `models.resnet.build`, weights: parameters, and the running statistics as `batch_stats`).

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a broken file, another architecture, or a missing or unknown key.
  """
  state = openai.read_state(path)
  if prefix:
    state = {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}
  return from_state(state, str(path))


def save(path: epath.PathLike, weights: Mapping[str, Any]) -> None:
  """Write weights as `.safetensors`, or as `.pt` or `.pth`, with torchvision's keys.

  Raises:
    ValueError: another ending, or a network that has no such keys (deep stem, selective kernels).
  """
  writers = {".safetensors": safetensors_reader, ".pt": torch_writer, ".pth": torch_writer}
  suffix = epath.Path(path).suffix
  config_lib.choose("ending of a file of torch's", suffix, writers).write(path, to_state(weights, str(path)))


def from_state(state: Arrays, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
  """As `load`, of a state dict.

  A stem of 3 x 3 counts as `cifar`, without a pool, which no key tells.

  Raises:
    ValueError: see `load`.
  """
  config = infer(state, where)
  flat = {}
  for key, array in state.items():
    if key.endswith("num_batches_tracked"):
      continue
    name = ours(key)
    if name is None:
      raise ValueError(f"{where}: the key {key!r} is none of a ResNet's with torchvision's keys")
    flat[name] = np.asarray(_turned(key, np.asarray(array, np.float32)), order="C")
  weights = tree.unflatten(flat)
  split, model = variables(weights), resnet.build(**config)
  fitting.check(split["params"], model, where)
  missing = sorted(_normed(split["params"]) ^ _normed(weights.get(STATISTICS, {})))
  if missing:
    raise ValueError(
      f"{where}: these norms lack their parameters or their running statistics: {', '.join(missing[:5])}"
    )
  return config, weights


def tower(state: Arrays, where: str) -> Tower:
  """A state dict's ResNet as an image tower, without its classifier, with ImageNet's mean and deviation.

  Raises:
    ValueError: see `load`.
  """
  config, weights = from_state({key: x for key, x in state.items() if not key.startswith("fc.")}, where)
  statistics = {STATISTICS: {"image": weights.pop(STATISTICS)}}
  mean, std = MEAN_STD["imagenet"]
  preprocess = dict(size=config["image_size"], mean=mean, std=std, interpolation="bicubic", resize_mode="shortest")
  notes = [f"{where} tells no preprocessing: the usual one of ImageNet is used"]
  return Tower("image", {"tower": "resnet", **config}, {"image": weights, **statistics}, preprocess, notes=notes)


def is_resnet(state: Arrays) -> bool:
  """Whether a state dict has the keys of such a network."""
  return "layer1.0.conv1.weight" in state


def to_state(weights: Mapping[str, Any], where: str = "the weights") -> dict[str, np.ndarray]:
  """Their state dict; each norm gets torch's counter of batches, at 0.

  Raises:
    ValueError: a parameter that torchvision's ResNets have not.
  """
  state = {}
  for name, array in tree.flatten(dict(weights)).items():
    key = theirs(name)
    if key is None:
      raise ValueError(f"{where}: torchvision's ResNets have no place for {name!r}")
    state[key] = np.asarray(_turned_back(name, np.asarray(array)), order="C")
    if key.endswith("running_var"):
      state[key.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
  return dict(sorted(state.items()))


def infer(state: Arrays, where: str) -> dict[str, Any]:
  """The keyword arguments of `models.resnet.build` that keys and shapes tell.

  Raises:
    ValueError: no ResNet.
  """
  first = names.need(state, "conv1.weight", where)
  found = [re.match(r"layer(\d)\.(\d+)\.conv1\.weight", key) for key in state]
  places = [(int(m[1]), int(m[2])) for m in found if m]
  groups = range(1, 1 + max((group for group, _ in places), default=0))
  counts = tuple(1 + max((block for g, block in places if g == group), default=-1) for group in groups)
  if first.ndim != 4 or not counts or 0 in counts:
    raise ValueError(f"{where} is no ResNet: conv1 has shape {first.shape}, and there are {counts} blocks")
  small = first.shape[-1] == 3
  config: dict[str, Any] = dict(
    blocks=counts,
    bottleneck="layer1.0.conv3.weight" in state,
    width_multiplier=first.shape[0] / 64 if first.shape[0] % 64 else first.shape[0] // 64,
    stem="cifar" if small else "imagenet",
    image_size=32 if small else 224,
  )
  if "fc.weight" in state:
    config["num_classes"] = len(state["fc.weight"])
  return config


def ours(key: str) -> str | None:
  """Our name of a key, the running statistics below `batch_stats`; None of an unknown one."""
  module, _, leaf = key.rpartition(".")
  if module == "fc":
    return {"weight": "classifier/kernel", "bias": "classifier/bias"}.get(leaf)
  found = re.fullmatch(r"(?:layer(\d)\.(\d+)\.)?(conv|bn|downsample\.)(\d)", module)
  if not found:
    return None
  group, block, kind, number = found.groups()
  norm = kind == "bn" or (kind == "downsample." and number == "1")
  if group is None:
    part = "stem_norm_0" if norm else "stem_0"
    if kind == "downsample." or number != "1":
      return None
  else:
    suffix = "shortcut" if kind == "downsample." else number
    part = f"group_{int(group) - 1}_{block}/{'norm' if norm else 'conv'}_{suffix}"
  if not norm:
    return f"{part}/kernel" if leaf == "weight" else None
  if leaf not in LEAVES:
    return None
  return f"{STATISTICS}/{part}/{LEAVES[leaf]}" if leaf.startswith("running") else f"{part}/{LEAVES[leaf]}"


def theirs(name: str) -> str | None:
  """The key of one of our names, the inverse of `ours`; None of a name that they have not."""
  module, _, leaf = name.removeprefix(f"{STATISTICS}/").rpartition("/")
  leaf = {**{o: t for t, o in LEAVES.items()}, "kernel": "weight"}.get(leaf, leaf)
  if module == "classifier":
    return f"fc.{leaf}"
  if module in ("stem_0", "stem_norm_0"):
    return f"{'bn' if 'norm' in module else 'conv'}1.{leaf}"
  found = re.fullmatch(r"group_(\d)_(\d+)/(conv|norm)_(\d|shortcut)", module)
  if not found:
    return None
  group, block, kind, number = found.groups()
  shortcut = f"downsample.{int(kind == 'norm')}"
  part = shortcut if number == "shortcut" else f"{'bn' if kind == 'norm' else 'conv'}{number}"
  return f"layer{int(group) + 1}.{block}.{part}.{leaf}"


def _normed(params: Mapping[str, Any]) -> set[str]:
  """The paths of the batch norms in a tree of parameters or of statistics."""
  return {path.rpartition("/")[0] for path in tree.flatten(dict(params)) if path.endswith(("/scale", "/variance"))}


def _turned(key: str, array: np.ndarray) -> np.ndarray:
  """Convolutions from [out, in, h, w], linear maps from [out, in]."""
  if array.ndim == 4:
    return names.LAYOUTS["conv"].ours(array, 1)
  return array.T if key == "fc.weight" else array


def _turned_back(name: str, array: np.ndarray) -> np.ndarray:
  if array.ndim == 4:
    return names.LAYOUTS["conv"].theirs(array)
  return array.T if name == "classifier/kernel" else array
