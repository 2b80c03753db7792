import re

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from vljax.checkpoint import Manager, Metadata, files, metadata, storage


@pytest.mark.slow
def test_any_mesh(tmp_path, make_state, equal, abstract):
  saved = make_state({"fsdp": 1}, seed=3)
  with Manager(tmp_path) as manager:
    assert manager.save(3, saved, {"train": 12, "aux": 5})
  for config, devices in (({"data": 4, "fsdp": 2}, None), ({"data": 2, "fsdp": 2, "tensor": 2}, None), ({}, 1)):
    target = make_state(config, seed=0, devices=jax.devices()[:devices])
    with Manager(tmp_path) as manager:
      restored, data, step = manager.restore(abstract(target))
    assert (data, step) == ({"train": 12, "aux": 5}, 3)
    assert equal(restored, saved)
    shardings = jax.tree.map(lambda x: x.sharding if isinstance(x, jax.Array) else None, (restored, target))
    assert shardings[0] == shardings[1]
  kernel = restored["params"]["blocks"]["mlp"]["up"]["kernel"]
  assert len(kernel.addressable_shards) == 1


@pytest.mark.slow
def test_steps_of_older_versions_count_batches(make_state, abstract, tmp_path, monkeypatch):
  args = storage.args
  monkeypatch.setattr(storage, "args", lambda *a, examples, **body: args(*a, data=examples, **body))
  config = {"streams": {"train": {"batch": 8}, "aux": {"batch": 4}}}
  with Manager(tmp_path, metadata=Metadata(config=config)) as manager:
    state = make_state({})
    manager.save(1, state, {"train": 12, "aux": 5})
    assert manager.restore(abstract(state))[1] == {"train": 96, "aux": 20}


@pytest.mark.slow
def test_bytes_per_device(tmp_path, make_state, abstract):
  state = make_state({"data": 4, "fsdp": 2})
  with Manager(tmp_path) as manager:
    manager.save(1, state)
    restored, _, _ = manager.restore(abstract(state))
  kernel = restored["params"]["blocks"]["mlp"]["up"]["kernel"]
  assert {shard.data.nbytes for shard in kernel.addressable_shards} == {kernel.nbytes // 8}
  assert {shard.data.nbytes for shard in restored["opt"][0].addressable_shards} == {8 * 16 * 4 // 8}


def test_donated_buffers_are_saved_as_they_were(tmp_path):
  state = {"w": jnp.arange(2**21, dtype=jnp.float32)}
  expected = np.array(state["w"])
  overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)
  with Manager(tmp_path) as manager:
    manager.save(1, state)
    state = overwrite(state)
    assert float(state["w"][0]) == -1
    restored, _, _ = manager.restore(state)
  np.testing.assert_array_equal(restored["w"], expected)


def test_dataclasses_and_numpy(tmp_path):
  @flax.struct.dataclass
  class State:
    params: dict
    seen: int
    ema: dict | None = None

  state = State({"w": jnp.ones(3), "mean": np.arange(3.0), "scale": np.float32(2)}, seen=7)
  with Manager(tmp_path) as manager:
    manager.save(1, state)
    restored, _, _ = manager.restore(state.replace(seen=0))
  assert isinstance(restored, State)
  assert restored.seen == 7
  assert restored.ema is None
  assert isinstance(restored.params["mean"], np.ndarray)
  assert restored.params["mean"].dtype == np.float64
  assert restored.params["w"].sharding == SingleDeviceSharding(jax.devices()[0])


@pytest.mark.slow
def test_unsharded_abstract_state(tmp_path):
  state = {"w": jnp.ones(3), "key": jax.random.key(1)}
  with Manager(tmp_path) as manager:
    manager.save(1, state)
    restored, _, _ = manager.restore(jax.eval_shape(lambda: state))
  assert jax.random.bits(restored["key"]) == jax.random.bits(state["key"])


def test_when_to_save(tmp_path):
  state = {"w": jnp.ones(3)}
  with Manager(tmp_path, keep=2, every=10) as manager:
    assert manager.restore(state) is None
    assert manager.latest_step() is None
    assert [step for step in range(45) if manager.save(step, state)] == [0, 10, 20, 30, 40]
    assert manager.save(45, state, force=True)
    assert not manager.save(45, state, force=True)
    assert manager.latest_step() == 45
  assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["40", "45"]
  with Manager(tmp_path, keep=2) as manager:
    assert manager.latest_step() == 45
    assert not manager.save(45, state)


def test_asked_for_step(tmp_path):
  with Manager(tmp_path, keep=5) as manager:
    for step in (1, 2, 3):
      manager.save(step, {"w": jnp.full(3, step)})
    assert float(manager.restore({"w": jnp.ones(3, jnp.int32)}, step=1)[0]["w"][0]) == 1
    assert manager.latest_step() == 1
    assert manager.save(2, {"w": jnp.full(3, 22)})
    assert manager.restore({"w": jnp.ones(3, jnp.int32)})[2] == 2
    with pytest.raises(FileNotFoundError, match="holds no step 7; found 1, 2$"):
      manager.restore({"w": jnp.ones(3)}, step=7)
  names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  assert names == ["1", "2", "2.superseded", "3.superseded"]


def test_another_tree_is_no_damage(tmp_path):
  with Manager(tmp_path) as manager:
    for step in (1, 2):
      manager.save(step, {"params": {"a": jnp.ones((2, 3)), "b": jnp.ones(2)}, "n": 1})
    with pytest.raises(ValueError, match=r"2 holds another tree than the model needs: params/a is float32\[2, 3\], "):
      manager.restore({"params": {"a": jnp.ones((2, 4)), "b": jnp.ones(2)}, "n": 1})
    message = "params/c is missing (expected float32[5]); params/b is not expected (found float32[2])"
    with pytest.raises(ValueError, match=re.escape(message)):
      manager.restore({"params": {"a": jnp.ones((2, 3)), "c": jnp.ones(5)}, "n": 1})
    with pytest.raises(ValueError, match=r"params/b is float32\[2\], expected bfloat16\[2\]"):
      manager.restore({"params": {"a": jnp.ones((2, 3)), "b": jnp.ones(2, jnp.bfloat16)}, "n": 1})
    with pytest.raises(ValueError, match="n is the int 1, expected the float 1.0"):
      manager.restore({"params": {"a": jnp.ones((2, 3)), "b": jnp.ones(2)}, "n": 1.0})
    assert manager.latest_step() == 2


def test_keys_of_another_implementation(tmp_path):
  with Manager(tmp_path) as manager:
    manager.save(1, {"rng": jax.random.key(0)})
    with pytest.raises(ValueError, match=r"rng is uint32\[2\] keys of threefry2x32, expected uint32\[4\] keys of rbg"):
      manager.restore({"rng": jax.random.key(0, impl="rbg")})


def test_illegal_leaves(tmp_path):
  with Manager(tmp_path) as manager:
    with pytest.raises(ValueError, match="leaf 'f' is of type function; legal: arrays, random keys, bool, int"):
      manager.save(1, {"f": lambda: 0})
    with pytest.raises(ValueError, match="two leaves of the state have the name 'a/b'"):
      manager.save(1, {"a": {"b": jnp.ones(1)}, "a/b": jnp.ones(1)})


def test_options(tmp_path):
  with pytest.raises(ValueError, match=r"config.checkpoint.keep = 0; legal: a positive number"):
    Manager(tmp_path, keep=0)


def test_a_failed_save_is_reported(tmp_path, monkeypatch):
  state = {"w": jnp.ones(3)}

  def fail(*_):
    raise OSError("No space left on device")

  with Manager(tmp_path) as manager:
    assert manager.save(1, state)
    manager.wait()
    with monkeypatch.context() as patch:
      patch.setattr(files, "record", fail)
      assert manager.save(2, state)
      with pytest.raises(RuntimeError, match="saving step 2 to .*checkpoints failed: No space left on device"):
        manager.save(3, state)
    assert manager.latest_step() == 1
    assert manager.restore(state)[2] == 1
    assert manager.save(2, state)
  with Manager(tmp_path) as manager:
    assert manager.restore(state)[2] == 2


def test_meaning(tmp_path):
  quick = Metadata({"steps": 3}, {"image": {"activation": "quick_gelu", "mean": (0.5, 0.5)}})
  exact = Metadata({}, {"image": {"activation": "gelu", "mean": (0.5, 0.5)}})
  Manager(tmp_path, metadata=exact).close()
  with Manager(tmp_path, metadata=quick) as manager:
    assert metadata.read(tmp_path).config == {"steps": 3}, "before the first save there is nothing to fit"
    manager.save(1, {"w": jnp.ones(3)})
  with Manager(tmp_path, metadata=Metadata({"steps": 4}, quick.meaning)) as manager:
    assert metadata.read(tmp_path).config == {"steps": 3}, "a config that may not fit replaces nothing yet"
    manager.save(2, {"w": jnp.ones(3)})
  message = "means something else than this run: image.activation is 'quick_gelu', expected 'gelu'"
  with pytest.raises(ValueError, match=re.escape(message) + "$"):
    Manager(tmp_path, metadata=exact)
  Manager(tmp_path).close()
  assert metadata.read(tmp_path).config == {"steps": 4}


def test_steps_that_lost_their_metadata_have_their_own(tmp_path):
  quick, exact = (Metadata({}, {"activation": name}) for name in ("quick_gelu", "gelu"))
  state = {"w": jnp.ones(3)}
  with Manager(tmp_path, metadata=quick) as manager:
    manager.save(1, state)
  (tmp_path / metadata.FILE).unlink()
  message = "checkpoints/1 means something else than this run: activation is 'quick_gelu', expected 'gelu'"
  with Manager(tmp_path, metadata=exact) as manager, pytest.raises(ValueError, match=re.escape(message) + "$"):
    manager.restore(state)
  assert not (tmp_path / metadata.FILE).exists(), "the refused meaning would refuse the right one"
  with Manager(tmp_path, metadata=quick) as manager:
    assert manager.restore(state)[2] == 1
    manager.save(2, state)
  assert metadata.read(tmp_path) == quick


@pytest.mark.parametrize("old", [{"metadata": {}}, {"metadata": Metadata().to_json()}])
def test_steps_without_a_meaning_are_not_compared(tmp_path, monkeypatch, old):
  args, state = storage.args, {"w": jnp.ones(3)}
  monkeypatch.setattr(storage, "args", lambda *a, **body: args(*a, **(body | old)))
  with Manager(tmp_path) as manager:
    manager.save(1, state)
  (tmp_path / metadata.FILE).unlink()
  with Manager(tmp_path, metadata=Metadata({}, {"activation": "gelu"})) as manager:
    assert manager.restore(state)[2] == 1
