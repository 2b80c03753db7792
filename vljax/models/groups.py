"""A tower's parameters in groups from its input to its head: what is locked, and how fast each group learns.

The groups are those of open_clip's ViTs: what comes before the blocks; each block, the last one with the norm and the
pooling after it; the head. Convolutional networks have their stem in place of the first.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vljax import config, tree
from vljax.models import fitting

TOWERS = dict.fromkeys(("image", "text"))
_AFTER = r"norm_post|pool|pooler|classifier|final|head_conv|head_norm"
_BLOCK = r"(?:blocks|stage_\d+/blocks)/\d+|stage_\d+/first|[^/]+"


def groups(names: Iterable[str], tower: str) -> dict[str, int]:
  """Unstacked name of each parameter of a tower and its head to the number of its group, from 0.

  Raises:
    ValueError: neither `image` nor `text`.
  """
  config.choose("tower", tower, TOWERS)
  places = {name: place for name in names if (place := _place(name, tower)) is not None}
  blocks = sorted({place for place in places.values() if place[0] == 1})
  last = blocks[-1] if blocks else (1,)
  places = {name: last if place == (2,) else place for name, place in places.items()}
  order = {place: i for i, place in enumerate(sorted(set(places.values())))}
  return {name: order[place] for name, place in places.items()}


def _place(name: str, tower: str) -> tuple[int, ...] | None:
  """Where a parameter stands: (0,) before the blocks, (1, block) in them, (2,) after them, (3,) in the head."""
  if name.startswith(f"{tower}_head/"):
    return (3,)
  if not name.startswith(f"{tower}/"):
    return None
  inner = name.removeprefix(f"{tower}/")
  if found := re.match(r"blocks/(\d+)/|(?:group|stage)_(\d+)_(\d+)/", inner):
    return (1, *(int(n) for n in found.groups() if n is not None))
  if found := re.match(r"stage_(\d+)/(?:first|blocks/(\d+))/", inner):
    stage, block = found.groups()
    return (1, int(stage), 0 if block is None else 1 + int(block))
  return (2,) if re.match(rf"({_AFTER})(/|$)", inner) else (0,)


def unlocked(names: Iterable[str], locks: Mapping[str, int], trains: str = ".*") -> str:
  """The regex of what `trains` matches, without all but the last groups of the towers in `locks`.

  `{"image": 0}` locks the image tower with its head (open_clip's `--lock-image`; LiT, arXiv 2111.07991),
  `{"image": 2}` all but its last block and its head (`--lock-image-unlocked-groups 2`).

  Raises:
    ValueError: an unknown tower, or more groups than it has.
  """
  names, locked = list(names), []
  for tower, count in locks.items():
    found = groups(names, tower)
    total = 1 + max(found.values())
    if not 0 <= count <= total:
      raise ValueError(f"config.lock.{tower} = {count}; legal: 0 to {total}, its groups")
    locked += [name for name, group in found.items() if group < total - count]
  if not locked:
    return trains
  parts = {re.match(rf"[^/]+/(?:{_BLOCK})", name)[0] for name in locked}  # type: ignore[index]
  return rf"(?!(?:{'|'.join(sorted(parts))})(?:/|$))(?:{trains})"


def rates(names: Iterable[str], decay: Mapping[str, float]) -> Callable[[str], float]:
  """Unstacked name to what its learning rate is multiplied by: decay^(groups between its own and the head's).

  Layer-wise decay (ELECTRA, arXiv 2003.10555, section A.1; BEiT, arXiv 2106.08254), per tower.

  Raises:
    ValueError: an unknown tower, or a factor that is not positive.
  """
  names, found = list(names), {}
  for tower, factor in decay.items():
    if factor <= 0:
      raise ValueError(f"config.layer_decay.{tower} = {factor}; legal: above 0")
    numbers = groups(names, tower)
    found |= {name: factor ** (max(numbers.values()) - number) for name, number in numbers.items()}
  return lambda name: found.get(name, 1.0)


def frozen(model: Any, parts: Sequence[str], trains: str) -> set[str]:
  """Those of a model's parts (`vision`, `lm/blocks`) of which the regex `trains` matches no parameter.

  In training, too, they run as they are, without dropout and the like.

  Raises:
    ValueError: the regex matches nothing at all.
  """
  if trains == ".*":
    return set()
  mask = tree.flatten(tree.split(fitting.abstract(model), trains).mask)
  live = [name for name, layers in mask.items() if np.any(layers)]
  return {part for part in parts if not any(name.startswith(f"{part}/") for name in live)}


def hold(model: Any, parts: Sequence[str], trains: str) -> Any:
  """The model with `held` set in those of its parts that have it: no weight gradients of the blocks at the bottom of a
  part of which the regex `trains` matches nothing.

  Raises:
    ValueError: the regex matches no parameter.
  """
  if trains == ".*":
    return model
  mask = tree.split(fitting.abstract(model), trains).mask
  held = {}
  for name in parts:
    if tree.STACK in mask[name] and hasattr(getattr(model, name), "held"):
      live = np.stack(jax.tree.leaves(mask[name][tree.STACK])).any(0)
      held[name] = int(np.argmax(live)) if live.any() else len(live)
  return model.clone(**{name: getattr(model, name).clone(held=count) for name, count in held.items()})
