"""Packages that only some sources need."""

import importlib
import types


def package(name: str, source: str, extra: str) -> types.ModuleType:
  """The imported package.

  Raises:
    ImportError: it is not installed; the message names the command that brings it.
  """
  try:
    return importlib.import_module(name)
  except ImportError as error:
    command = f"pip install 'vljax[{extra}]'"
    raise ImportError(f"source {source}: needs the package {name.replace('_', '-')}: {command}") from error
