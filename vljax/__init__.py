"""vljax: vision-language training in JAX, from SimCLR to Flamingo."""

import importlib

__version__ = "0.1.0"


def __getattr__(name: str):
  if name == "hub":  # loaded on first use, so that `import vljax` starts no JAX backend and stays fast
    return importlib.import_module("vljax.hub")
  raise AttributeError(f"module 'vljax' has no attribute {name!r}")
