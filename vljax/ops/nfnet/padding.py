"""How many zeros a convolution sees around an image."""

from vljax import config

Pads = tuple[tuple[int, int], tuple[int, int]]
"""(before, after) of height and of width."""

KINDS = dict.fromkeys(("same", "symmetric"))


def pads(kind: str, size: tuple[int, int], kernel: int, stride: int) -> Pads:
  """The zeros around an image of (height, width).

  `same` leaves ceil(size / stride) pixels and, where the zeros are odd, has one more after (TensorFlow, DeepMind);
  `symmetric` has kernel // 2 on both sides whatever the stride (torch). At stride 1 they are equal.

  Raises:
    ValueError: an unknown kind, with the nearest.
  """
  config.choose("padding", kind, KINDS)
  if kind == "symmetric":
    return ((kernel // 2, kernel // 2),) * 2

  def around(length: int) -> tuple[int, int]:
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2

  return around(size[0]), around(size[1])
