"""Starting a run from others: some of their leaves, under other names, at other sizes if need be.

`config.init = [(source path, source regex, target prefix), ...]`. A regex matches whole unstacked names
(`image/blocks/3/mlp/up/kernel`); what its group matched, or the whole name if it has none, follows the prefix.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from vljax import config as config_lib
from vljax import tree as tree_lib
from vljax.checkpoint import files, packing, storage
from vljax.parallel import to_host

Resize = Callable[[str, np.ndarray, tuple[int, ...]], Any]
"""(target name, source leaf, target shape) -> a leaf of that shape."""


def initialize(
  target: Any,
  entries: Iterable[tuple[str, str, str]],
  load: Callable[[str], Any],
  resize: Resize | None = None,
) -> tuple[Any, list[dict[str, Any]]]:
  """(the target with the leaves of each entry in turn, a record of each: source, regex, prefix, hash, leaves).

  Args:
    target: parameters, as real arrays; their dtypes and shardings stay.
    entries: `config.init`.
    load: source path -> parameters, e.g. `lambda path: load_params(path)[0]`.
    resize: for leaves whose shapes differ, such as position embeddings of another image size.

  Raises:
    ValueError: see `transfer`; names the entry.
  """
  records = []
  for i, (source, regex, prefix) in enumerate(entries):
    try:
      target, record = transfer(target, load(source), regex, prefix, resize)
    except ValueError as error:
      raise ValueError(f"config.init[{i}] = {(source, regex, prefix)}: {error}") from error
    records.append({"source": str(source), "regex": regex, "prefix": prefix, **record})
  return target, records


def transfer(
  target: Any, source: Any, source_regex: str, target_prefix: str = "", resize: Resize | None = None
) -> tuple[Any, dict[str, Any]]:
  """(the target with matching leaves of the source, {hash: of the leaves taken, leaves: target name to source name}).

  Raises:
    ValueError: the regex is none, or matches no source leaf; two leaves get one name; a name is not in the target;
      shapes differ (and there is no resize). Names both sides.
  """
  flat = tree_lib.unstack(source)
  taken = _match(flat, source_regex, target_prefix)
  slots = {
    name: (stored, layer)
    for stored, leaf in tree_lib.flatten(target).items()
    for layer, name in enumerate(tree_lib.layer_names(stored, leaf))
  }
  shapes = {name: leaf.shape for name, leaf in tree_lib.flatten(target).items()}
  by_leaf: dict[str, dict[int, np.ndarray]] = {}
  for name, source_name in taken.items():
    if name not in slots:
      raise ValueError(config_lib.unknown(f"target {name!r} of the source leaf {source_name!r}", name, slots))
    stored, layer = slots[name]
    shape = shapes[stored][1:] if name != stored else shapes[stored]
    by_leaf.setdefault(stored, {})[layer] = _fit(name, source_name, np.asarray(flat[source_name]), shape, resize)
  put = lambda keys, x: _put(x, by_leaf.get(tree_lib.path(keys)), tree_lib.path(keys))
  leaves = {name: flat[name] for name in taken.values()}
  index = storage.with_sums(leaves, {name: packing.describe(name, leaf) for name, leaf in leaves.items()})
  return jax.tree.map_with_path(put, target), {"hash": files.digest(index), "leaves": taken}


def _match(flat: Mapping[str, Any], regex: str, prefix: str) -> dict[str, str]:
  """Target name to source name."""
  pattern = tree_lib.pattern(regex)
  taken: dict[str, str] = {}
  for source in flat:
    if not (found := pattern.fullmatch(source)):
      continue
    rest = found[1] if pattern.groups else source
    name = "/".join(part for part in (prefix.strip("/"), (rest or "").strip("/")) if part)
    if name in taken:
      raise ValueError(f"the source leaves {taken[name]!r} and {source!r} both become {name!r}")
    taken[name] = source
  if not taken:
    raise ValueError(
      f"the regex {regex!r} matches no leaf of the source; its names begin: {', '.join(list(flat)[:5])}"
    )
  return taken


def _fit(name: str, source_name: str, x: np.ndarray, shape: tuple[int, ...], resize: Resize | None) -> np.ndarray:
  found = x.shape
  if x.shape != shape and resize is not None:
    x = np.asarray(resize(name, x, shape))
  if x.shape != shape:
    raise ValueError(f"the source leaf {source_name!r} has the shape {found}, the target {name!r} has {shape}")
  return x


def _put(x: Any, new: Mapping[int, np.ndarray] | None, name: str) -> Any:
  """The leaf with new values: whole, or the layers given; laid out as before."""
  if new is None:
    return x
  if tree_lib.layer_names(name, x) == (name,):
    values = new[0]
  elif len(new) == x.shape[0]:
    values = np.stack([new[i] for i in range(len(new))])
  else:
    values = to_host(x).copy()
    for layer, value in new.items():
      values[layer] = value
  values = values.astype(x.dtype)
  if not isinstance(x, jax.Array):
    return values
  return jax.make_array_from_callback(x.shape, x.sharding, lambda index: values[index])
