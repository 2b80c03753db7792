"""Gates, placement, media and the ablations of gated cross-attention."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from vljax import parallel, tree
from vljax.models import fitting, gated_xattn
from vljax.models.gated_xattn import places

MILLIONS = {"flamingo-3b": 1208, "flamingo-9b": 1610, "flamingo-9b-table4": 2013, "flamingo-80b": 9664}
"""n * 12 width^2, of which table 5 prints 1.2, 1.6 and 10 billion."""

PHI = np.array([[0, 0, 1, 1, 2, 2], [1, 1, 1, 3, 3, 3]], np.int32)


@functools.cache
def made(**overrides):
  """(model, parameters of which none is zero, what one layer does to rows, jitted)."""
  model = gated_xattn.build("test", **overrides)
  params = nn.meta.unbox(jax.jit(lambda: model.init(jax.random.key(0), *model.inputs())["params"])())
  noise = lambda keys, p: p + 0.3 * jax.random.normal(jax.random.key(len(str(keys))), p.shape)
  params = jax.tree.map_with_path(noise, params)

  @jax.jit
  def run(params, x, visual, phi, first=None):
    insert = model.apply({"params": params}, visual, phi, first)
    for i in range(model.depth):
      x = insert.apply(jax.tree.map(lambda p, i=i: p[i], insert.params), x, None)
    return x

  return model, params, run


def draw(t=6, n=3, s=5):
  rng = np.random.default_rng(0)
  return rng.normal(size=(2, t, 32)).astype(np.float32), rng.normal(size=(2, n, s, 32)).astype(np.float32)


def moved(a, b):
  """Which rows differ."""
  return np.abs(np.asarray(a) - np.asarray(b)).max(-1) > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", MILLIONS)
def test_parameter_counts(name):
  assert tree.count(fitting.abstract(gated_xattn.build(name))) / 1e6 == pytest.approx(MILLIONS[name], rel=0.01)


@pytest.mark.slow
def test_gates_start_at_zero_and_leave_x_as_it_is():
  model, params, run = made()
  gates = {n: p for n, p in tree.flatten(params).items() if "gate_" in n}
  assert {n: p.shape for n, p in gates.items()} == dict.fromkeys(("blocks/gate_attention", "blocks/gate_mlp"), (2,))
  fresh = nn.meta.unbox(jax.jit(lambda: model.init(jax.random.key(0), *model.inputs())["params"])())
  x, visual = draw()
  np.testing.assert_array_equal(run(fresh, x, visual, PHI), x)
  assert moved(run(params, x, visual, PHI), x).all()


@pytest.mark.slow
def test_a_medium_moves_only_its_own_rows():
  _, params, run = made()
  x, visual = draw()
  whole = run(params, x, visual, PHI)
  for medium in (1, 2, 3):
    edited = visual.copy()
    edited[:, medium - 1] += 1
    np.testing.assert_array_equal(moved(run(params, x, edited, PHI), whole), medium == PHI)


def test_rows_without_a_medium_pass_the_dense_half_only():
  _, params, run = made()
  x, visual = draw()
  nothing = np.zeros_like(PHI)
  assert moved(run(params, x, visual, nothing), x).all()
  np.testing.assert_array_equal(run(params, x, visual, nothing), run(params, x, visual[:, :0], nothing))
  _, vanilla, run = made(dense=False)
  assert not moved(run(vanilla, x, visual, nothing), x).any()
  np.testing.assert_array_equal(moved(run(vanilla, x, visual, PHI), x), PHI > 0)


def test_all_previous_media_of_the_document():
  """Two documents: rows 0 to 3 with media 1 and 2, then one with medium 3, whose first row comes before it."""
  _, params, run = made(previous=True)
  phi, first = (np.array([row] * 2, np.int32) for row in ([0, 1, 2, 2, 0, 3], [1, 1, 1, 1, 3, 3]))
  x, visual = draw()
  whole = run(params, x, visual, phi, first)
  for medium in (1, 2, 3):
    edited = visual.copy()
    edited[:, medium - 1] += 1
    seen = (np.asarray(first) <= medium) & (phi >= medium)
    np.testing.assert_array_equal(moved(run(params, x, edited, phi, first), whole), seen)


@pytest.mark.slow
@pytest.mark.parametrize(
  "overrides", [dict(project=True), dict(qk_norm="rms", norm="rms", gated=True, activation="silu")]
)
def test_remembered_keys_and_values_change_nothing(overrides):
  model, params, run = made(**overrides)
  x, visual = draw()

  @jax.jit
  def by_memory(x, visual, phi):
    memory = model.apply({"params": params}, visual, method="remember")
    insert = model.apply({"params": params}, None, phi, None, memory)
    for i in range(model.depth):
      own, pair = jax.tree.map(lambda p, i=i: p[i], (insert.params, insert.xs))
      x = insert.apply(own, x, pair)
    return x, memory

  out, (key, value) = by_memory(x, visual, PHI)
  assert key.shape == value.shape == (2, 2, 3, 5, 4, 8)
  np.testing.assert_allclose(out, run(params, x, visual, PHI), atol=1e-5)


@pytest.mark.parametrize("gate", ["tanh_vector", "none"])
def test_other_gates(gate):
  model, params, run = made(gate=gate)
  shapes = {n: p.shape for n, p in tree.flatten(params).items() if "gate_" in n}
  assert set(shapes.values()) == ({(2, 32)} if gate == "tanh_vector" else set())
  fresh = nn.meta.unbox(jax.jit(lambda: model.init(jax.random.key(0), *model.inputs())["params"])())
  x, visual = draw()
  assert moved(run(fresh, x, visual, PHI), x).all() == (gate == "none")


@pytest.mark.slow
def test_weights_are_those_of_the_own_medium():
  model, params, _ = made()
  x, visual = draw()
  weights = np.asarray(model.apply({"params": params}, 1, x, visual, PHI, method="weights"))
  assert weights.shape == (2, 4, 6, 5)
  np.testing.assert_allclose(weights.sum(-1), np.broadcast_to((PHI > 0)[:, None], (2, 4, 6)), atol=1e-5)
  edited = visual.copy()
  edited[0, 0] *= -1
  changed = np.abs(model.apply({"params": params}, 1, x, edited, PHI, method="weights") - weights).max((1, 3)) > 1e-6
  assert changed[0, 2:4].all()
  assert changed.sum() == 2


@pytest.mark.parametrize(
  ("layers", "every", "placement", "at"),
  [
    (4, 1, "first", (0, 1, 2, 3)),
    (12, 4, "first", (0, 4, 8)),
    (12, 4, "last", (3, 7, 11)),
    (80, 7, "first", tuple(range(0, 78, 7))),
    (10, 4, "first", (0, 4, 8)),
    (10, 4, "last", (3, 7)),
    (24, 1, "middle", (12,)),
  ],
)
def test_placement(layers, every, placement, at):
  assert places(layers, every, placement) == at


@pytest.mark.parametrize("name", gated_xattn.VARIANTS)
def test_every_parameter_maps_through_the_rules(name):
  mesh = jax.sharding.AbstractMesh((1, 4, 2), ("data", "fsdp", "tensor"))
  whole = part = 0
  is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)
  for box in jax.tree.leaves(fitting.abstract(gated_xattn.build(name), boxed=True), is_leaf=is_box):
    where = parallel.sharding(mesh, parallel.DEFAULT, box.names, box.value.shape)
    whole, part = whole + box.value.size, part + np.prod(where.shard_shape(box.value.shape))
  assert name == "test" or part < 1.01 * whole / 8


def test_errors_name_what_is_legal():
  with pytest.raises(ValueError, match="unknown placement of cross-attention 'frist'; did you mean 'first'"):
    gated_xattn.build("test", placement="frist")
  with pytest.raises(ValueError, match="before every 5 of 4 blocks; legal: 1 to 4"):
    gated_xattn.build("test", every=5)
  with pytest.raises(ValueError, match="heads = 3 does not divide width = 32; set head_dim"):
    gated_xattn.build("test", heads=3)
  with pytest.raises(ValueError, match="unknown gate of cross-attention 'tan'; did you mean 'tanh'"):
    fitting.abstract(gated_xattn.build("test", gate="tan"))
