import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from vljax import parallel, tree
from vljax.train import state as states
from vljax.train.optim import Group, Optimiser
from vljax.train.recipe import Phase, Recipe
from vljax.train.state import Layout


def make(recipe, batch, **options):
  layout = Layout(recipe, batch)
  groups, rate = ((".*", Group()),), lambda step: jnp.float32(0.1)
  optimisers = {slot: Optimiser(groups, rate, layout.params, cut=cut) for slot, cut in layout.splits.items()}
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


@pytest.mark.slow
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


def test_frozen_leaves_take_what_their_module_computes_in_and_no_less_than_is_asked_for():
  from flax import linen as nn

  class Tower(nn.Module):
    dtype: str | None

    @nn.compact
    def __call__(self, x):
      x = nn.Dense(3, dtype="float32", name="wide")(nn.Dense(3, name="plain")(x))
      block = nn.Dense(3, dtype="float32")
      self.param("blocks", lambda key: jax.vmap(lambda key: block.init(key, x)["params"])(jax.random.split(key, 2)))
      return x + self.param("bias", nn.initializers.zeros, (3,))

  class Both(nn.Module):
    @nn.compact
    def __call__(self, x):
      return Tower("bfloat16", name="tower")(x) * self.param("scale", nn.initializers.ones, ())

  def of(model, narrowest):
    loss = lambda params, extras, batch, rng: ({"loss": 0.0}, {}, extras)
    init = lambda rng, batch: (model.init(rng, batch["x"])["params"], {})
    layout, make_state = make(
      Recipe(init=init, phases=(Phase(name="p", loss=loss, trains="(tower/)?bias"),)),
      {"x": jnp.zeros((1, 3))}, frozen_dtype=narrowest,
    )  # fmt: skip
    state = jax.eval_shape(make_state, jax.random.key(0))
    return {name: str(leaf.dtype) for name, leaf in tree.flatten(layout.frozen(state.params)).items()}

  part = lambda name: {"wide/kernel": "float32", "plain/kernel": name, "blocks/kernel": name}
  with_biases = lambda found: found | {name.replace("kernel", "bias"): dtype for name, dtype in found.items()}
  assert of(Tower("bfloat16"), jnp.bfloat16) == with_biases(part("bfloat16"))
  assert of(Tower(None), jnp.bfloat16) == with_biases(part("float32"))
  wanted = {f"tower/{name}": dtype for name, dtype in with_biases(part("bfloat16")).items()}
  assert of(Both(), jnp.bfloat16) == {**wanted, "scale": "float32"}
  assert set(of(Both(), jnp.float32).values()) == {"float32"}
