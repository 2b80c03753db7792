import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from flax.core import meta
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax import tree
from vljax.train import gradients as g
from vljax.train.recipe import Phase


@pytest.mark.slow
@given(st.integers(1, 6), st.integers(1, 5))
@settings(deadline=None, max_examples=20)
def test_chunks_and_whole(n, rows):
  batch = {"x": jnp.arange(n * rows * 2).reshape(n * rows, 2), "y": jnp.arange(n * rows)}
  parts = g.chunks(batch, n)
  assert parts["x"].shape == (n, rows, 2)
  chex.assert_trees_all_equal(g.whole(parts), batch)
  assert parts["y"][0].tolist() == list(range(0, n * rows, n)), "part j holds rows j, n + j, ..."


def linear(trains=".*", **fields):
  def loss(params, extras, batch, rng):
    return {"loss": jnp.sum(jnp.square(batch["x"] @ params["w"] - 1.0))}, {"mean": batch["x"].mean()}, extras

  return Phase(name="p", loss=loss, trains=trains, **fields)


def of(phase, params, batch, micro=1, extras=None):
  cut = tree.split(params, phase.trains)
  return g.gradients(phase, cut, cut.live(params), cut.held(params), extras or {}, batch, jax.random.key(0), micro)


@pytest.mark.slow
def test_coefficients_and_denominators_by_hand():
  batch, w = {"x": toys.normal(0, 6, 3)}, toys.normal(1, 3)
  phase = linear(coefs={"loss": 0.5}, weights=lambda batch: {"loss": 4.0})
  found = of(phase, {"w": w}, batch)
  np.testing.assert_allclose(found.grads["w"], 0.5 / 4 * 2 * batch["x"].T @ (batch["x"] @ w - 1.0), rtol=1e-5)
  expected = jnp.sum(jnp.square(batch["x"] @ w - 1.0)) / 4
  np.testing.assert_allclose(found.metrics["loss"], 0.5 * expected, rtol=1e-6)


@pytest.mark.slow
def test_the_term_is_reported_without_its_coefficient_and_the_loss_with_it():
  found = of(toys.masked().phases[0], toys.masked().init(jax.random.key(0), None)[0], {
    "x": toys.normal(0, 4, 5, 6), "a": jnp.ones((4, 5)), "b": jnp.ones((4, 5)),
  })  # fmt: skip
  np.testing.assert_allclose(
    found.metrics["loss"], found.metrics["tokens"] + 0.5 * found.metrics["regions"], rtol=1e-6
  )


@pytest.mark.parametrize("micro", [2, 3])
def test_micro_batches_of_a_sum(micro):
  batch, params = {"x": toys.normal(0, 6, 3)}, {"w": toys.normal(1, 3)}
  whole, parts = of(linear(), params, batch), of(linear(), params, batch, micro)
  chex.assert_trees_all_close(whole.grads, parts.grads, rtol=1e-5)
  chex.assert_trees_all_close(whole.metrics, parts.metrics, rtol=1e-5)


def test_extras_pass_through_micro_batches_in_order():
  def loss(params, extras, batch, rng):
    return {"loss": jnp.sum(params["w"] * batch["x"])}, {}, {"last": batch["x"][-1, 0], "seen": extras["seen"] + 1}

  batch = {"x": jnp.arange(6.0).reshape(6, 1)}
  found = of(Phase(name="p", loss=loss), {"w": jnp.ones(1)}, batch, 3, {"last": jnp.zeros(()), "seen": jnp.int32(0)})
  assert (int(found.extras["seen"]), float(found.extras["last"])) == (3, 5.0)


def normed(train):
  """A phase over a batch norm that trains, or stays as at evaluation; and its parameters and statistics."""
  from vljax.layers.batch_norm import STATISTICS, BatchNorm

  model = BatchNorm()
  made = model.init(jax.random.key(0), jnp.zeros((1, 3)))

  def loss(params, extras, batch, rng):
    x, extras = model.apply({"params": params, **extras}, batch["x"], train=train, mutable=list(extras))
    return {"loss": jnp.sum(jnp.square(x - 1.0))}, {}, extras

  return Phase(name="p", loss=loss), meta.unbox(made["params"]), {STATISTICS: made[STATISTICS]}


@pytest.mark.slow
def test_batch_statistics_that_move_are_refused_in_micro_batches_and_named():
  phase, params, extras = normed(train=True)
  batch = {"x": toys.normal(0, 4, 3)}
  assert np.any(of(phase, params, batch, 1, extras).extras["batch_stats"]["mean"])
  with pytest.raises(ValueError, match="^phase 'p': 'batch_stats/mean' is a statistic of the whole batch"):
    of(phase, params, batch, 2, extras)


@pytest.mark.slow
def test_batch_statistics_that_rest_pass_micro_batches():
  phase, params, extras = normed(train=False)
  whole, parts = (of(phase, params, {"x": toys.normal(0, 4, 3)}, micro, extras) for micro in (1, 2))
  chex.assert_trees_all_close(whole.grads, parts.grads, rtol=1e-5)
  chex.assert_trees_all_equal(parts.extras, extras)


def test_held_leaves_have_no_gradient():
  params = {"w": toys.normal(1, 3), "frozen": toys.normal(2, 3)}
  found = of(linear("w"), params, {"x": toys.normal(0, 4, 3)})
  assert found.grads["frozen"] is None
  assert found.grads["w"].shape == (3,)


def test_a_term_without_a_denominator():
  phase = linear(weights=lambda batch: {"los": 1})
  with pytest.raises(ValueError, match=r"^phase 'p': its loss gives the term 'loss'; its weights give \['los'\]"):
    of(phase, {"w": toys.normal(1, 3)}, {"x": toys.normal(0, 4, 3)})


def test_a_coefficient_of_no_term():
  phase = linear(coefs={"loss_": 2.0})
  with pytest.raises(ValueError, match=r"^phase 'p': coefs name \['loss_'\]; its loss gives \['loss'\]"):
    of(phase, {"w": toys.normal(1, 3)}, {"x": toys.normal(0, 4, 3)})
