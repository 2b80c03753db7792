"""The one entry point of convolutions, and the choice of what runs them."""

from typing import Any

import jax
from jaxtyping import Array, Float

from vljax import config
from vljax.ops.nfnet import native, reference, split
from vljax.ops.nfnet.padding import pads

IMPLEMENTATIONS = {"reference": reference, "native": native, "split": split}
"""Name to module with `refusal(groups) -> reason or None` and `convolve`."""

PREFERRED = {"cpu": "split", "gpu": "split", "tpu": "native"}
"""What runs grouped convolutions, by platform.

Measured on CPUs (`benchmarks/nfnet.py`). XLA estimates that its own is the faster one on TPUs (compiled for v5e: 0.50
against 0.62 ms). On GPUs its gradient costs as much as without groups (jax issue 13800); that is a report, nobody has
timed the two here.
"""


def conv(
  x: Float[Array, "b h w c"],
  kernel: Float[Array, "m n i o"],
  *,
  stride: int = 1,
  groups: int = 1,
  padding: str = "same",
  implementation: str | None = None,
) -> Float[Array, "b p q o"]:
  """The convolution of NHWC images with a kernel whose i are the channels of one group, c / groups.

  Args:
    padding: `same` or `symmetric`, see `padding.pads`.
    implementation: a key of IMPLEMENTATIONS; None picks by platform and groups.

  Raises:
    ValueError: shapes that do not fit, an unknown padding or implementation, or one that cannot run this call.
  """
  shapes = f"images {x.shape}, kernel {kernel.shape}, groups = {groups}"
  if x.ndim != 4 or kernel.ndim != 4 or kernel.shape[0] != kernel.shape[1]:
    raise ValueError(f"conv takes images [b h w c] and a square kernel [n n i o]; found {shapes}")
  if kernel.shape[2] * groups != x.shape[3] or kernel.shape[3] % groups:
    raise ValueError(f"the channels of the kernel times groups must be the image's, and groups divide o: {shapes}")
  around = pads(padding, (x.shape[1], x.shape[2]), kernel.shape[0], stride)
  name = choose(jax.default_backend(), groups, implementation)
  return IMPLEMENTATIONS[name].convolve(x, kernel, stride, around, groups)


def choose(platform: str, groups: int, implementation: str | None = None) -> str:
  """The implementation of so many groups: the named one, or the platform's, or `native` where that refuses.

  Raises:
    ValueError: an unknown name, or the named implementation refuses.
  """
  if implementation is not None:
    module: Any = config.choose("convolution implementation", implementation, IMPLEMENTATIONS)
    if reason := module.refusal(groups):
      raise ValueError(f"convolution implementation {implementation!r} cannot run here: {reason}")
    return implementation
  name = PREFERRED.get(platform, "native")
  return name if groups > 1 and IMPLEMENTATIONS[name].refusal(groups) is None else "native"
