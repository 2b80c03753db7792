"""A recipe on a mesh with its streams: all that a run is made of, but the loop."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vljax import parallel, tree
from vljax.data import batching, loader, sources, transforms
from vljax.data.packed import packed
from vljax.data.tokenizers import Tokenizer
from vljax.parallel import arrays
from vljax.parallel import mesh as meshes
from vljax.parallel import rules as logical
from vljax.train import schedules
from vljax.train import state as states
from vljax.train.optim import Optimiser, check
from vljax.train.recipe import Due, Recipe
from vljax.train.run import Run
from vljax.train.state import Layout, State
from vljax.train.step import Step, due_at
from vljax.types import Batch


class Trainer:
  """Everything checked and laid out before the first step.

  Attributes:
    mesh, rules: where arrays lie; `use()` enters them.
    sources, streams: name to source and to stream of its examples.
    layout: names, logical axes and splits of the parameters.
    optimisers: slot to optimiser.
    step: the train step.
    shardings: of the state.

  Raises:
    ValueError: the mesh does not fit the devices, a batch does not divide it, a stream is asked for that the config
      lacks or lacks itself a field that the recipe reads, a regex of config.optim is the first match of nothing, or
      several streams under a learning rate that follows the batch.
  """

  def __init__(self, recipe: Recipe, config: Run, tokenizer: Tokenizer | None = None):
    self.recipe, self.config = recipe, config
    self.mesh = meshes.make(config.mesh)
    self.rules = logical.check(self.mesh, config.rules)
    for name, stream in config.streams.items():
      meshes.check_batch(name, stream.batch, self.mesh, stream.micro)
    _check_streams(recipe, config)
    self.sources = {name: sources.open(stream.source) for name, stream in config.streams.items()}
    self.streams = {
      name: packed(
        loader.Stream(
          self.sources[name],
          transforms.build(stream.transforms, tokenizer, f"config.streams.{name}.transforms"),
          seed=config.seed,
          shuffle=stream.shuffle,
          cache=stream.cache,
        ),
        stream.documents,
      )
      for name, stream in config.streams.items()
    }
    examples = {name: _example(name, stream) for name, stream in self.streams.items()}
    _check_fields(recipe, examples)
    self.example = next(iter(examples.values()))
    self.layout = Layout(recipe, self.example)
    rate = schedules.build(config.schedule, config.steps, _scaled_batch(config))
    trained = tree.flatten(self.layout.trained.per_layer(self.layout.params, lambda name: name))
    check(config.optim, [str(n) for found in trained.values() for n in np.atleast_1d(found)])
    self.optimisers = {
      slot: Optimiser(config.optim, rate, self.layout.params, config.clip, recipe.slots[slot].rates, cut)
      for slot, cut in self.layout.splits.items()
    }
    with self.use():
      self.shardings = states.shardings(self.abstract(), self.layout, self.mesh, self.rules)
    self.step = Step(recipe, self.layout, self.optimisers, config.shares, ema=config.ema, shardings=self.shardings)

  def use(self) -> Any:
    """Enter mesh and rules."""
    return parallel.use(self.mesh, self.rules)

  def fresh(self) -> State:
    """A new state, made sharded."""
    return jax.jit(self._initialise, out_shardings=self.shardings)(jax.random.key(self.config.seed))

  def abstract(self) -> State:
    """Shapes and dtypes of the state."""
    return jax.eval_shape(self._initialise, jax.random.key(self.config.seed))

  def target(self) -> State:
    """What a checkpoint is restored into: shapes, dtypes and shardings of the state."""
    return jax.tree.map(
      lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), self.abstract(), self.shardings
    )

  def due(self, step: int) -> Due:
    """The (phase, stream) pairs of a step."""
    return due_at(self.recipe, step, self.config.combine, self.config.shares)

  def loaders(self, consumed: Mapping[str, int]) -> dict[str, loader.Loader]:
    """The loader of each stream, from the example after those that were consumed."""
    index, count = arrays.share(self.mesh, self.rules)
    return {
      name: loader.Loader(
        stream,
        self.config.streams[name].batch,
        start=consumed.get(name, 0),
        process_index=index,
        process_count=count,
        workers=self.config.workers,
        max_broken=self.config.streams[name].max_broken,
      )
      for name, stream in self.streams.items()
    }

  def put(self, batch: Mapping[str, np.ndarray]) -> Batch:
    """A host batch as global arrays."""
    return arrays.to_global(batch, self.mesh, self.rules)

  def _initialise(self, rng: Any) -> State:
    narrowest = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    example = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.example)
    ema = self.config.ema is not None
    return states.initialise(self.recipe, self.layout, self.optimisers, rng, example, ema=ema, frozen_dtype=narrowest)


def _example(name: str, stream: Any) -> Batch:
  row = stream[0]
  if row.example is None:
    failure = row.failures[-1]
    raise ValueError(
      f"the first examples of config.streams.{name} are all broken; the last: {failure.key}: {failure.cause}"
    )
  shapes = {field: batching.array(value) for field, value in row.example.items()}
  return {field: jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for field, x in shapes.items()}


def _check_fields(recipe: Recipe, examples: Mapping[str, Batch]) -> None:
  """Let `init` look at one stream of each set of fields; where there is one set, the layout does."""
  unlike: dict[frozenset[str], str] = {}
  for name, example in examples.items():
    unlike.setdefault(frozenset(example), name)
  for name in unlike.values() if len(unlike) > 1 else ():
    try:
      jax.eval_shape(lambda rng, batch: recipe.init(rng, batch), jax.random.key(0), examples[name])
    except ValueError as error:
      raise ValueError(f"config.streams.{name}: {error}") from error


def _scaled_batch(config: Run) -> int:
  """The batch that the learning rate may follow."""
  scaling, batches = config.schedule.scaling, [stream.batch for stream in config.streams.values()]
  if scaling != "none" and len(batches) > 1:
    raise ValueError(
      f"config.schedule.scaling = {scaling!r} follows the batch of one stream; config.streams has {len(batches)}: "
      "set scaling = 'none' and the learning rate itself"
    )
  return batches[0]


def _check_streams(recipe: Recipe, config: Run) -> None:
  for phase in recipe.phases:
    for stream in phase.streams:
      if stream not in config.streams:
        raise ValueError(
          f"phase {phase.name!r} reads the stream {stream!r}; config.streams has {', '.join(sorted(config.streams))}"
        )
  read = {stream for phase in recipe.phases for stream in phase.streams}
  for name in config.streams:
    if name not in read:
      raise ValueError(f"no phase reads config.streams.{name}; the phases read {', '.join(sorted(read))}")
