"""Augmentations by name, as configs write them.

  build([("random_resized_crop", 32), ("flip_lr",), ("color_jitter", 0.5), ("grayscale", 0.2)])

gives a function of (rng, images [b h w c] in [0, 1]) -> images.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from vljax import config
from vljax.ops.augment import color, filters, geometry, policy
from vljax.types import Array, Float, Rng

Augment = Callable[[Rng, Float[Array, "b h w c"]], Float[Array, "b i j c"]]

OPERATIONS: dict[str, Callable[..., Any]] = {
  "random_resized_crop": geometry.random_resized_crop,
  "flip_lr": geometry.flip_lr,
  "rotate": geometry.rotate,
  "cutout": geometry.cutout,
  "random_erasing": geometry.random_erasing,
  "color_jitter": color.color_jitter,
  "grayscale": color.grayscale,
  "solarize": color.solarize,
  "equalize": color.equalize,
  "gaussian_blur": filters.gaussian_blur,
  "gaussian_noise": filters.gaussian_noise,
  "motion_blur": filters.motion_blur,
  "sobel": filters.sobel,
  "auto_augment": policy.auto_augment,
  "rand_augment": policy.rand_augment,
}


def build(steps: Sequence[Sequence[Any]]) -> Augment:
  """The steps one after the other; a step is a name, then positional arguments, and maybe a dict of named ones.

  Raises:
    ValueError: an unknown operation (with the nearest name) or arguments that it does not take.
  """
  functions = [_step(i, tuple(step)) for i, step in enumerate(steps)]

  def run(rng: Rng, images: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    for i, function in enumerate(functions):
      images = function(jax.random.fold_in(rng, i), images)
    return images

  return run


def _step(index: int, step: tuple[Any, ...]) -> Augment:
  name, *arguments = step
  function = config.choose(f"augmentation {index}:", name, OPERATIONS)
  named = dict(arguments.pop()) if arguments and isinstance(arguments[-1], Mapping) else {}
  try:
    inspect.signature(function).bind(None, None, *arguments, **named)
  except TypeError as error:
    raise ValueError(f"augmentation {index}: {name}{tuple(arguments)} {named or ''}: {error}") from error
  names = list(inspect.signature(function).parameters)[2:]
  return functools.partial(function, **dict(zip(names, arguments, strict=False)), **named)
