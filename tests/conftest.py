"""Eight simulated devices, a persistent compilation cache, and the folder of real data."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import pytest

ROOT = pathlib.Path(__file__).parent.parent

jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache/jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
  """The folder of real data sets, from VLJAX_DATA."""
  folder = os.environ.get("VLJAX_DATA")
  if not folder:
    pytest.skip("VLJAX_DATA does not name the folder of real data sets")
  return pathlib.Path(folder)


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
  """The repository's root."""
  return ROOT
