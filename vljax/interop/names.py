"""The names and layouts of published parameters against ours: tables, and one engine that reads them both ways.

A row says: our unstacked name (or the three of a fused projection), their key, and how the array is laid out there.
`{n}` is the number of a layer. Torch keeps linear maps as [out, in] and convolutions as [out, in, h, w]; ours are
[in, out], [h, w, in, out] and, for attention, [width, heads, head_dim].
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from vljax import tree
from vljax.models.dual_encoder import DualEncoder

Arrays = Mapping[str, np.ndarray]
QKV = ("query", "key", "value")


@dataclasses.dataclass(frozen=True)
class Layout:
  """The two ways of one layout; `heads` is that of the row's tower."""

  ours: Callable[[np.ndarray, int], np.ndarray]
  theirs: Callable[[np.ndarray], np.ndarray]


def _heads(x: np.ndarray, heads: int) -> np.ndarray:
  return x.reshape(*x.shape[:-1], heads, -1)


LAYOUTS = {
  "same": Layout(lambda x, k: x, lambda x: x),
  "scalar": Layout(lambda x, k: x.reshape(()), lambda x: x),
  "one": Layout(lambda x, k: x.reshape(()), lambda x: x.reshape(1)),
  "gain": Layout(lambda x, k: x.reshape(-1), lambda x: x.reshape(-1, 1, 1, 1)),
  "pointwise": Layout(lambda x, k: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None]),
  "first": Layout(lambda x, k: x[0], lambda x: x[None]),
  "token": Layout(lambda x, k: x[0, 0], lambda x: x[None, None]),
  "linear": Layout(lambda x, k: x.T, lambda x: x.T),
  "conv": Layout(lambda x, k: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)),
  "to_heads": Layout(lambda x, k: _heads(x.T, k), lambda x: x.reshape(x.shape[0], -1).T),
  "head_bias": Layout(_heads, lambda x: x.reshape(-1)),
  "from_heads": Layout(lambda x, k: x.T.reshape(k, -1, x.shape[0]), lambda x: x.reshape(-1, x.shape[-1]).T),
}


@dataclasses.dataclass(frozen=True)
class Row:
  """One parameter of theirs: one or several of ours, which lie one after the other on its first axis."""

  ours: tuple[str, ...]
  theirs: str
  layout: str

  @property
  def tower(self) -> str:
    return self.ours[0].partition("/")[0]

  def at(self, layer: int) -> "Row":
    put = lambda name: name.replace("{n}", str(layer))
    return Row(tuple(map(put, self.ours)), put(self.theirs), self.layout)


def row(ours: str | Iterable[str], theirs: str, layout: str = "same") -> Row:
  """A row; `ours` is a name or several."""
  return Row((ours,) if isinstance(ours, str) else tuple(ours), theirs, layout)


def norm(ours: str, theirs: str) -> list[Row]:
  """The two rows of a layer norm."""
  return [row(f"{ours}/scale", f"{theirs}.weight"), row(f"{ours}/bias", f"{theirs}.bias")]


def linear(ours: str, theirs: str, kernel: str = "linear", bias: str = "same") -> list[Row]:
  """The two rows of a linear map."""
  return [row(f"{ours}/kernel", f"{theirs}.weight", kernel), row(f"{ours}/bias", f"{theirs}.bias", bias)]


@dataclasses.dataclass(frozen=True)
class Table:
  """All rows of a format, and the patterns of keys that carry nothing and are dropped."""

  rows: tuple[Row, ...]
  dropped: tuple[str, ...]

  def key(self, ours: str) -> Row:
    return next(r for r in self.rows if ours in r.ours)

  def all(self, depths: Mapping[str, int], absent: Iterable[str] = ()) -> list[Row]:
    """The rows of a model with so many layers per tower, without those of our names that begin with `absent`."""
    rows = [r for r in self.rows if not r.ours[0].startswith(tuple(absent))]
    layered = lambda r: [r.at(n) for n in range(depths[r.tower])] if "{n}" in r.theirs else [r]
    return [numbered for r in rows for numbered in layered(r)]

  def is_dropped(self, key: str) -> bool:
    return any(matches(pattern, key) for pattern in self.dropped)


def infer(table: Table, state: Arrays, where: str) -> dict[str, Any]:
  """Every dimension that shapes tell: of a ViT as the image tower, of the text tower, and of the joint space.

  Raises:
    ValueError: a key that is needed is missing, or a shape is none of a ViT's.
  """
  patch, _, _, width = _shape(table, state, "image/patch/kernel", 4, where)
  positions = _shape(table, state, "image/pos", 2, where)[0]
  grid = round((positions - 1) ** 0.5)
  if grid**2 + 1 != positions:
    raise ValueError(f"{where}: {positions} image positions are not a class token and a square of patches")
  mlp = _shape(table, state, "image/blocks/{n}/mlp/up/bias", 1, where)[0]
  depth = _depth(table, state, "image")
  text, dim = infer_text(table, state, where)
  return dict(image=dict(image_size=grid * patch, patch=patch, width=width, depth=depth, mlp=mlp), text=text, dim=dim)


def infer_text(table: Table, state: Arrays, where: str) -> tuple[dict[str, Any], int]:
  """(the dimensions of the text tower, width of the joint space).

  Raises:
    ValueError: a key that is needed is missing.
  """
  length, width = _shape(table, state, "text/pos", 2, where)
  text = dict(
    vocab=_shape(table, state, "text/token/embedding", 2, where)[0],
    length=length,
    width=width,
    depth=_depth(table, state, "text"),
    mlp=_shape(table, state, "text/blocks/{n}/mlp/up/bias", 1, where)[0],
  )
  return text, _shape(table, state, "text_head/kernel", 2, where)[1]


def _shape(table: Table, state: Arrays, ours: str, ndim: int, where: str) -> tuple[int, ...]:
  """The shape of one of our parameters in the first layer, as their array tells it, with one head."""
  found = table.key(ours).at(0)
  array = need(state, found.theirs, where)
  if array.ndim != ndim:
    raise ValueError(f"{where}: {found.theirs} has shape {array.shape}; legal: {ndim} axes")
  return LAYOUTS[found.layout].ours(array, 1).shape


def _depth(table: Table, state: Arrays, tower: str) -> int:
  theirs = table.key(f"{tower}/blocks/{{n}}/norm_1/scale").theirs
  pattern = re.escape(theirs).replace(re.escape("{n}"), r"(\d+)")
  return 1 + max((int(found[1]) for key in state if (found := re.fullmatch(pattern, key))), default=0)


def matches(pattern: str, key: str) -> bool:
  """Whether a regex fully matches a key."""
  return re.fullmatch(pattern, key) is not None


def need(state: Arrays, key: str, where: str) -> np.ndarray:
  """`state[key]`, or an error that names the nearest key."""
  if key not in state:
    raise ValueError(f"{where}: the key {key!r} is missing{_near(key, state)}")
  return state[key]


def to_ours(
  table: Table, state: Arrays, model: DualEncoder | Mapping[str, Any], where: str, absent: Iterable[str] = ()
) -> dict[str, Any]:
  """The nested, stacked tree of their state dict, in float32; `model` has the towers, or is a dict of them.

  Raises:
    ValueError: a key is missing or unknown (with the nearest), or an array does not fit its layout.
  """
  towers = model if isinstance(model, Mapping) else {"image": model.image, "text": model.text}
  rows = table.all({name: getattr(tower, "depth", 0) for name, tower in towers.items()}, absent)
  heads = {
    name: (n := getattr(tower, "heads", 1), getattr(tower, "kv_heads", None) or n) for name, tower in towers.items()
  }
  legal = {r.theirs for r in rows}
  for key in state:
    if key not in legal and not table.is_dropped(key):
      raise ValueError(f"{where}: the key {key!r} is unknown{_near(key, legal - set(state) or legal)}")
  flat: dict[str, np.ndarray] = {}
  for r in rows:
    array = np.asarray(need(state, r.theirs, where), np.float32)
    try:
      parts = np.split(array, len(r.ours)) if len(r.ours) > 1 else [array]
      flat.update((name, _ours(r, name, part, heads)) for name, part in zip(r.ours, parts, strict=True))
    except ValueError as error:
      raise ValueError(f"{where}: {r.theirs} of shape {array.shape} is no {r.layout} of this model") from error
  return tree.stack(flat)


def to_theirs(table: Table, params: Any, where: str, absent: Iterable[str] = ()) -> dict[str, np.ndarray]:
  """Their state dict of our tree, key by key in the table's order, as contiguous arrays of the tree's dtype.

  Raises:
    ValueError: the format has no place for one of our parameters, or wants one that we lack.
  """
  flat = {name: np.asarray(array) for name, array in tree.unstack(params).items()}
  depths = {tower: 1 + max(_layers(flat, tower), default=-1) for tower in {r.tower for r in table.rows}}
  rows = table.all(depths, absent)
  legal = {name for r in rows for name in r.ours}
  for name in flat:
    if name not in legal:
      raise ValueError(f"{where}: the format has no place for the parameter {name!r}{_near(name, legal)}")
  state = {}
  for r in rows:
    parts = [LAYOUTS[r.layout].theirs(need(flat, name, where)) for name in r.ours]
    state[r.theirs] = np.asarray(np.concatenate(parts) if len(parts) > 1 else parts[0], order="C")
  return state


def _ours(r: Row, name: str, array: np.ndarray, heads: Mapping[str, tuple[int, int]]) -> np.ndarray:
  """`heads` are those of a tower's queries, and of its keys and values."""
  own = heads.get(r.tower, (1, 1))[re.search("/(key|value)/", name) is not None]
  return np.asarray(LAYOUTS[r.layout].ours(array, own), order="C")


def _layers(flat: Arrays, tower: str) -> Iterable[int]:
  return (int(found[1]) for name in flat if (found := re.match(rf"{tower}/blocks/(\d+)/", name)))


def _near(name: str, legal: Iterable[str]) -> str:
  near = difflib.get_close_matches(name, list(legal), 1, 0.6)
  return f"; the nearest is {near[0]!r}" if near else ""
