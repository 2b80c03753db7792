"""The image tower of OpenAI's RN models (openai/CLIP, clip/model.py): names, sizes, statistics of its norms."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vljax.interop.names import QKV, Row, linear, need, row
from vljax.layers.batch_norm import STATISTICS

FIRST = "visual.layer1.0.conv1.weight"
"""A key that only these towers have."""

COUNTERS = r".*\.num_batches_tracked"
"""Of batches seen, which change nothing that the model computes; written as zeros."""

GROUPS = 4
STRIDE = 32


def _normalized(ours: str, number: str, conv: str, norm: str) -> list[Row]:
  """A convolution without bias and the batch norm after it."""
  name = f"{ours}norm_{number}"
  return [
    row(f"{ours}{'' if ours.endswith('_') else 'conv_'}{number}/kernel", f"{conv}.weight", "conv"),
    row(f"{name}/scale", f"{norm}.weight"),
    row(f"{name}/bias", f"{norm}.bias"),
    row(f"{STATISTICS}/{name}/mean", f"{norm}.running_mean"),
    row(f"{STATISTICS}/{name}/variance", f"{norm}.running_var"),
  ]


def rows(blocks: tuple[int, ...]) -> list[Row]:
  """The rows of a tower with so many blocks per group, its last linear map among them."""
  found = [r for i in range(3) for r in _normalized("image/stem_", str(i), f"visual.conv{i + 1}", f"visual.bn{i + 1}")]
  for i, count in enumerate(blocks):
    for j in range(count):
      ours, theirs = f"image/group_{i}_{j}/", f"visual.layer{i + 1}.{j}"
      for n in ("1", "2", "3"):
        found += _normalized(ours, n, f"{theirs}.conv{n}", f"{theirs}.bn{n}")
      if j == 0:
        found += _normalized(ours, "shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1")
  pool = "visual.attnpool"
  found.append(row("image/pool/pos", f"{pool}.positional_embedding"))
  for name in QKV:
    found += linear(f"image/pool/{name}", f"{pool}.{name[0]}_proj", "to_heads", "head_bias")
  return [*found, *linear("image_head", f"{pool}.c_proj")]


def infer(state: Mapping[str, np.ndarray], where: str) -> tuple[dict[str, Any], int]:
  """(the image tower's dimensions, width of the joint space), read off names and shapes.

  Raises:
    ValueError: a key that is needed is missing, or the positions are no square and one more.
  """
  numbers = [re.match(r"visual\.layer(\d+)\.(\d+)\.", key) for key in state]
  seen = {(int(found[1]), int(found[2])) for found in numbers if found}
  blocks = tuple(len({j for i, j in seen if i == group}) for group in range(1, GROUPS + 1))
  base = need(state, FIRST, where).shape[0]
  places = need(state, "visual.attnpool.positional_embedding", where).shape[0] - 1
  grid = round(places**0.5)
  if grid**2 != places:
    raise ValueError(f"{where}: {places + 1} image positions are not the mean and a square of places")
  image = dict(tower="modified_resnet", blocks=blocks, base=base, image_size=grid * STRIDE)
  return image, need(state, "visual.attnpool.c_proj.weight", where).shape[0]


def with_counters(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The state dict with a counter of batches, at zero, after each running variance, as torch keeps one."""
  found: dict[str, np.ndarray] = {}
  for key, array in state.items():
    found[key] = array
    if key.endswith(".running_var"):
      found[key.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
  return found
