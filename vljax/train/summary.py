"""The first lines of a run: devices, mesh, parameters, who trains them, bytes, data, checkpoints."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from vljax import tree
from vljax.train.state import State
from vljax.train.trainer import Trainer

MIB = 2**20


def lines(trainer: Trainer, state: State, workdir: Any, resumed: str) -> Iterator[str]:
  """What a user wants to see before the first step.

  Args:
    resumed: where the state came from.
  """
  device = jax.devices()[0]
  ways = ", ".join(f"{axis} {n}" for axis, n in trainer.mesh.shape.items())
  yield f"devices     {jax.device_count()} x {device.device_kind} on {jax.process_count()} hosts; mesh {ways}"
  yield from parameters(trainer, state)
  held, largest = per_device(state)
  yield f"state       {held / MIB:,.1f} MiB on the fullest device, {largest / MIB:,.1f} MiB in all"
  for name, stream in trainer.streams.items():
    config, source = trainer.config.streams[name], trainer.sources[name]
    yield (
      f"stream      {name}: {source.name}, {len(stream):,} examples, batch {config.batch:,} in {config.micro} parts, "
      f"weight {config.weight:g}"
    )
    if source.notes:
      yield f"data        {source.notes}"
    if source.credit:
      yield f"credit      {source.credit}"
  save = trainer.config.checkpoint
  yield f"checkpoints {workdir}/checkpoints, every {save.every:,} steps, the newest {save.keep} kept"
  yield f"start       {resumed}"


def parameters(trainer: Trainer, state: State) -> Iterator[str]:
  """Parameters by module, and the optimiser groups with what each got."""
  trained = trainer.layout.trained
  groups: dict[str, list[int]] = {}
  for (name, leaf), mask in zip(tree.flatten(state.params).items(), jax.tree.leaves(trained.mask), strict=True):
    module = "/".join(name.split("/")[:2])
    row = groups.setdefault(module, [0, 0])
    row[0] += leaf.size
    row[1] += int(leaf.size * np.mean(mask))
  width = max(map(len, groups))
  yield f"parameters  {tree.count(state.params):,}, trained {sum(row[1] for row in groups.values()):,}"
  for module, (count, live) in groups.items():
    yield f"  {module:{width}}  {count:>13,}" + ("" if live == count else f"  trained {live:,}")
  for slot, optimiser in trainer.optimisers.items():
    for regex, settings, got in optimiser.table(trainer.layout.splits[slot].live(state.params)):
      yield f"optimiser   {slot}: {regex}  {settings}  {got}"


def per_device(state: State) -> tuple[int, int]:
  """(bytes of the state on the fullest of this host's devices, bytes of one whole copy)."""
  held: dict[Any, int] = {}
  arrays = [x for x in jax.tree.leaves(state) if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)]
  for x in arrays:
    for shard in x.addressable_shards:
      held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
  return max(held.values()), sum(x.nbytes for x in arrays)
