import jax
import jax.numpy as jnp
import numpy as np
import toys

from vljax import parallel
from vljax.train import state as states
from vljax.train.optim import Group, Optimiser
from vljax.train.recipe import Phase, Recipe
from vljax.train.state import Layout


def make(recipe, batch, **options):
  layout = Layout(recipe, batch)
  groups, rate = ((".*", Group()),), lambda step: jnp.float32(0.1)
  optimisers = {slot: Optimiser(groups, rate, cut.live(layout.params)) for slot, cut in layout.splits.items()}
  init = lambda rng: states.initialise(recipe, layout, optimisers, rng, batch, **options)
  return layout, init


def boxed():
  """A recipe whose parameters and extras name their axes."""
  from flax import linen as nn

  def init(rng, batch):
    kernel = nn.with_logical_partitioning(jax.random.normal, ("embed", "mlp"))(rng, (8, 16))
    mean = nn.with_logical_partitioning(lambda rng, shape: jnp.zeros(shape), ("mlp",))(rng, (16,))
    return {"up": {"kernel": kernel}, "plain": jnp.ones(8)}, {"mean": mean}

  loss = lambda params, extras, batch, rng: ({"loss": jnp.sum(params["plain"])}, {}, extras)
  return Recipe(init=init, phases=(Phase(name="p", loss=loss),))


def test_slots_averages_and_extras_lie_beside_their_parameters():
  mesh = parallel.make(parallel.Mesh(data=2, fsdp=2, tensor=2))
  layout, init = make(boxed(), {"x": jnp.zeros((1, 2))}, ema=True)
  abstract = jax.eval_shape(init, jax.random.key(0))
  where = states.shardings(abstract, layout, mesh, parallel.DEFAULT)
  spec = parallel.sharding(mesh, parallel.DEFAULT, ("embed", "mlp"), (8, 16))
  assert where.params["up"]["kernel"] == spec
  assert where.ema["up"]["kernel"] == spec
  assert where.opt["p"].mu["up"]["kernel"] == where.opt["p"].nu["up"]["kernel"] == spec
  assert where.extras["mean"] == parallel.sharding(mesh, parallel.DEFAULT, ("mlp",), (16,))
  for leaf in (where.params["plain"], where.step, where.rng, where.opt["p"].count):
    assert leaf.is_fully_replicated


def test_the_state_holds_no_boxes_and_starts_alike_everywhere():
  _, init = make(boxed(), {"x": jnp.zeros((1, 2))}, ema=True)
  a, b = init(jax.random.key(3)), jax.jit(init)(jax.random.key(3))
  assert isinstance(a.params["up"]["kernel"], jax.Array)
  jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
  jax.tree.map(np.testing.assert_array_equal, a.ema, a.params)
  assert not np.array_equal(jax.random.key_data(a.rng), jax.random.key_data(jax.random.key(3)))


def test_averaged_is_the_average_where_there_is_one():
  batch = {"x": toys.normal(1, 4, 3, 4)}
  _, init = make(toys.frozen_lm(), batch, ema=True, frozen_dtype=jnp.bfloat16)
  state = init(jax.random.key(0))
  assert state.ema["lm"]["blocks"]["w"] is None
  moved = state.replace(ema=jax.tree.map(lambda x: x + 1, state.ema))
  np.testing.assert_array_equal(moved.averaged["xattn"]["w"], state.params["xattn"]["w"] + 1)
  assert moved.averaged["lm"]["blocks"]["w"] is state.params["lm"]["blocks"]["w"]
  assert state.replace(ema=None).averaged == state.params


def test_frozen_and_moving_are_the_whole():
  batch = {"x": toys.normal(1, 4, 3, 4)}
  layout, init = make(toys.frozen_lm(), batch)
  params = init(jax.random.key(0)).params
  assert layout.frozen(params)["xattn"]["w"] is None
  assert layout.moving(params)["lm"]["blocks"]["w"] is None
  assert layout.frozen(params)["lm"]["blocks"]["w"] is params["lm"]["blocks"]["w"]
