import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from vljax import parallel


def test_to_global():
  mesh = parallel.make(parallel.Mesh(data=2, fsdp=2, tensor=2))
  host = {
    "image": np.arange(8 * 3, dtype=np.float32).reshape(8, 3),
    "label": np.arange(8),
    "scale": np.ones(8, jnp.bfloat16),
  }
  batch = parallel.to_global(host, mesh)
  assert batch["image"].sharding.spec == P(("data", "fsdp"))
  assert batch["image"].addressable_shards[0].data.shape == (2, 3)
  assert batch["image"].addressable_shards[0].data.nbytes * 4 == host["image"].nbytes
  back = parallel.to_host(batch)
  for name, value in host.items():
    np.testing.assert_array_equal(back[name], value)


def test_rules_decide():
  mesh = parallel.make(parallel.Mesh(data=4, fsdp=2))
  assert parallel.batch_sharding(mesh, {"batch": "data"}).spec == P("data")
  assert parallel.share(mesh) == (0, 1)


def test_errors():
  mesh = parallel.make()
  with pytest.raises(ValueError, match=r"the fields of a batch differ in their number of rows: \{'a': \(8,\), 'b'"):
    parallel.to_global({"a": np.zeros(8), "b": np.zeros(4)}, mesh)
  with pytest.raises(ValueError, match="field 'key' of the batch has dtype <U1; legal: numbers and booleans"):
    parallel.to_global({"key": np.array(["a"] * 8)}, mesh)
  with pytest.raises(ValueError, match="the batch has 6 rows; legal: multiples of 8 on the mesh"):
    parallel.to_global({"a": np.zeros(6)}, mesh)


def test_replicate():
  mesh = parallel.make()
  tree = parallel.replicate({"mean": np.arange(3.0, dtype=np.float32), "n": 2}, mesh)
  assert tree["mean"].is_fully_replicated
  assert len(tree["mean"].addressable_shards) == 8
  assert int(tree["n"]) == 2
  assert parallel.to_host(jax.jit(jnp.sum)(tree["mean"])) == 3
