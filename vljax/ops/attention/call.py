"""What is known about a call of attention before it runs: all that the choice of an implementation rests on."""

import dataclasses
import importlib.util

import jax


@dataclasses.dataclass(frozen=True)
class Device:
  """Where it runs: platform, on GPUs the compute capability, and whether the package tokamax is installed."""

  platform: str
  capability: float = 0.0
  tokamax: bool = False

  @classmethod
  def current(cls) -> "Device":
    platform = jax.default_backend()
    gpu = platform == "gpu"
    capability = float(getattr(jax.devices()[0], "compute_capability", None) or 0.0) if gpu else 0.0
    return cls(platform, capability, importlib.util.find_spec("tokamax") is not None)


@dataclasses.dataclass(frozen=True)
class Call:
  """Shapes, dtype and masks of a call.

  Attributes:
    masks: the names of the masks given, among causal, offset, key_padding, segments, media.
    bias: whether a bias is added to the scores.
  """

  device: Device
  dtype: str
  batch: int
  queries: int
  keys: int
  heads: int
  kv_heads: int
  dim: int
  masks: frozenset[str] = frozenset()
  bias: bool = False
