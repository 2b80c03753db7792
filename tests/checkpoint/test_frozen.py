import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import tree
from vljax.checkpoint import Manager, load_params

PARAMS = {
  "lm": {"w": jnp.arange(512.0, dtype=jnp.bfloat16).reshape(16, 32), "b": jnp.ones(4)},
  "head": {"w": jnp.zeros((4, 2))},
}

OTHER = {**PARAMS, "lm": {**PARAMS["lm"], "b": jnp.zeros(4)}}


def held(params):
  return {"params": tree.split(params, "lm/.*").live(params)}


def state(value=0.0, params=PARAMS):
  return {"params": {**params, "head": {"w": jnp.full((4, 2), float(value))}}, "step": jnp.int32(value)}


def stored(folder):
  return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("use", [jnp, np])
def test_restored_in_the_stored_dtype_of_floats(tmp_path, use):
  with Manager(tmp_path) as manager:
    manager.save_frozen(held(PARAMS))
    manager.save(1, state(1))
    asked = jax.tree.map(use.asarray, state())
    for dtype in ("float32", "float16"):
      asked["params"]["lm"]["w"] = use.zeros((16, 32), dtype)
      restored, _, _ = manager.restore(asked)
      assert restored["params"]["lm"]["w"].dtype == jnp.bfloat16
      np.testing.assert_array_equal(restored["params"]["lm"]["w"], PARAMS["lm"]["w"])
    with pytest.raises(ValueError, match="params/head/w is float32.*, expected float16"):
      manager.restore({**asked, "params": {**asked["params"], "head": {"w": use.zeros((4, 2), "float16")}}})
    asked["params"]["lm"]["w"] = use.zeros((16, 32), "int32")
    with pytest.raises(ValueError, match="params/lm/w is bfloat16.*, expected int32"):
      manager.restore(asked)


def test_written_once(tmp_path):
  with Manager(tmp_path) as manager:
    first = manager.save_frozen(held(PARAMS))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints/frozen").rglob("*")}
    assert manager.save_frozen(held(PARAMS)) == first
    manager.save(1, state(1))
    manager.save(2, state(2))
  with Manager(tmp_path) as manager:
    restored, _, step = manager.restore(jax.eval_shape(state))
    assert step == 2
    assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and bool((a == b).all()), restored, state(2)))
    manager.save(3, restored)
  assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints/frozen").rglob("*")}
  for step in "123":
    assert "lm" not in (tmp_path / "checkpoints" / step / "state" / "_METADATA").read_text()
    assert first in (tmp_path / "checkpoints" / step / "index" / "metadata").read_text()
  params, _ = load_params(tmp_path)
  np.testing.assert_array_equal(params["lm"]["w"], PARAMS["lm"]["w"])


def test_others_raise(tmp_path):
  with Manager(tmp_path) as manager:
    manager.save_frozen(held(PARAMS))
    manager.save(1, state(1))
    with pytest.raises(
      ValueError, match="holds other frozen leaves than this run: params/lm/b differ; legal: the same"
    ):
      manager.save_frozen(held(OTHER))
    with pytest.raises(ValueError, match="save_frozen was given no leaves"):
      manager.save_frozen({"params": None})


def test_leaves_of_a_start_that_saved_no_step_are_replaced(tmp_path):
  with Manager(tmp_path) as manager:
    first = manager.save_frozen(held(PARAMS))
  with Manager(tmp_path) as manager:
    assert manager.save_frozen(held(OTHER)) != first
    manager.save(1, state(1, OTHER))
    restored, _, _ = manager.restore(state())
  np.testing.assert_array_equal(restored["params"]["lm"]["b"], np.zeros(4))


def test_damage(tmp_path):
  with Manager(tmp_path) as manager:
    manager.save_frozen(held(PARAMS))
    manager.save(1, state(1))
  folder = tmp_path / "checkpoints/frozen"
  (folder / "state/_METADATA").unlink()
  with Manager(tmp_path) as manager:
    with pytest.raises(ValueError, match=r"can be used: step 1: .*/frozen/state/_METADATA is missing"):
      manager.restore(state())
    manager.save_frozen(held(PARAMS))
    assert manager.restore(state())[2] == 1
    assert (tmp_path / "checkpoints/frozen.damaged").exists()


def test_another_run_s_leaves_are_noticed(tmp_path):
  for name, value in (("a", 1.0), ("b", 2.0)):
    params = {**PARAMS, "lm": {**PARAMS["lm"], "b": jnp.full(4, value)}}
    with Manager(tmp_path / name) as manager:
      manager.save_frozen(held(params))
      manager.save(1, state(1, params))
  (tmp_path / "a/checkpoints/frozen").rename(tmp_path / "a/old")
  (tmp_path / "b/checkpoints/frozen").rename(tmp_path / "a/checkpoints/frozen")
  with Manager(tmp_path / "a") as manager, pytest.raises(ValueError, match=r"has the hash \w{12}; the step refers to"):
    manager.restore(state())
