"""What a number was measured on."""

import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
from typing import Any

import jax

PACKAGES = ("vljax", "jax", "jaxlib", "flax", "optax", "grain", "numpy", "torch", "transformers")


def describe() -> dict[str, Any]:
  """Processor, cores, memory, devices, versions and the commit (with `+` if files differ from it)."""
  devices = jax.devices()
  return {
    "processor": _processor(),
    "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    "devices": f"{len(devices)} x {devices[0].device_kind}",
    "load": round(os.getloadavg()[0], 2),
    "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    "versions": {name: version for name in PACKAGES if (version := _version(name))},
    "commit": _commit(),
  }


def _processor() -> str:
  info = pathlib.Path("/proc/cpuinfo")
  found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
  return found[1] if found else platform.processor()


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def _commit() -> str:
  git = lambda *words: subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()
  return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
