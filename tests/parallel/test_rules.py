import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from vljax import parallel
from vljax.parallel import Axis, rules


@pytest.fixture
def mesh():
  return parallel.make(parallel.Mesh(data=2, fsdp=2, tensor=2))


def test_spec_uses_a_mesh_axis_once():
  assert rules.spec((Axis.EMBED, Axis.MLP), rules.DEFAULT) == P("fsdp", "tensor")
  assert rules.spec((Axis.BATCH, None, Axis.EMBED), rules.DEFAULT) == P(("data", "fsdp"), None, None)
  assert rules.spec((Axis.EMBED,), {"embed": ("data", "fsdp")}) == P(("data", "fsdp"))
  assert rules.spec((Axis.MLP,), {"embed": None}) == P("tensor")


def test_an_axis_that_does_not_divide_stays_whole(mesh):
  assert parallel.sharding(mesh, rules.DEFAULT, (Axis.EMBED, Axis.MLP), (3, 4)).spec == P(None, "tensor")
  with pytest.raises(ValueError, match=r"logical axes \('embed',\) name 1 axes of an array of shape \(3, 4\)"):
    parallel.sharding(mesh, rules.DEFAULT, (Axis.EMBED,), (3, 4))


def test_placement_goes_by_name(mesh):
  place = rules.placement(mesh, {"mlp": None}, {"up": (Axis.EMBED, Axis.MLP), "mean": ()})
  assert place("up", jnp.ones((4, 4))).spec == P("fsdp", None)
  assert place("mean", jnp.ones(4)).spec == place("other", jnp.ones(4)).spec == P(None)
  with pytest.raises(ValueError, match="unknown logical axis 'mpl'"):
    rules.placement(mesh, {"mpl": None}, {})


def test_a_batch_is_cut_into_ways(mesh):
  assert rules.ways() == 1
  with parallel.use(mesh):
    assert rules.ways() == 4
  with parallel.use(mesh, {"batch": "data"}):
    assert rules.ways() == 2


def test_misspelt_names(mesh):
  with pytest.raises(ValueError, match="unknown logical axis 'embde'; did you mean 'embed'"):
    parallel.sharding(mesh, rules.DEFAULT, ("embde",), (4,))
  with pytest.raises(ValueError, match="unknown logical axis 'batsh'; did you mean 'batch'"):
    parallel.constrain(jnp.ones(4), "batsh")
  with (
    pytest.raises(ValueError, match=r"unknown logical axis 'mpl' in config.rules; did you mean 'mlp'"),
    parallel.use(mesh, {"mpl": "tensor"}),
  ):
    pass
  with (
    pytest.raises(ValueError, match=r"unknown mesh axis 'tensors' in config.rules.mlp; did you mean 'tensor'"),
    parallel.use(mesh, {"mlp": "tensors"}),
  ):
    pass


def test_constrain(mesh):
  f = jax.jit(lambda x: parallel.constrain(x * 2, Axis.BATCH, Axis.EMBED))
  x = jnp.ones((8, 4))
  assert parallel.constrain(x, Axis.BATCH, Axis.EMBED) is x
  with parallel.use(mesh):
    assert f(x).sharding.spec == P(("data", "fsdp"))
  with parallel.use(mesh, {"batch": "data"}):
    assert jax.jit(lambda x: parallel.constrain(x, Axis.BATCH, Axis.EMBED))(x).sharding.spec == P("data", "fsdp")
  assert rules.active() is None


def test_a_mesh_without_rules(mesh):
  with (
    jax.set_mesh(mesh),
    pytest.raises(ValueError, match="a mesh was entered without logical axis rules; enter both with parallel.use"),
  ):
    parallel.constrain(jnp.ones(4), Axis.BATCH)
