import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from vljax import tree
from vljax.train.ema import Ema
from vljax.train.optim import Group, Optimiser
from vljax.train.recipe import Phase, Recipe
from vljax.train.state import Layout
from vljax.train.step import Share, due_at


def pairs(n=8):
  return {"image": toys.normal(1, n, 6), "text": toys.normal(2, n, 5)}


def masks(n=8):
  rng = np.random.default_rng(3)
  return {
    "x": toys.normal(4, n, 5, 6),
    "a": jnp.float32(rng.random((n, 5)) < 0.3),
    "b": jnp.float32(rng.random((n, 5)) < 0.7),
  }


@pytest.mark.slow
@pytest.mark.parametrize("micro", [2, 4])
def test_contrastive_micro_batches_equal_the_whole_batch(micro):
  whole, whole_metrics, _ = toys.run(toys.contrastive(), {"train": pairs()})
  parts, part_metrics, _ = toys.run(toys.contrastive(), {"train": pairs()}, shares={"train": Share(micro=micro)})
  chex.assert_trees_all_close(whole.params, parts.params, atol=1e-6)
  chex.assert_trees_all_close(whole_metrics[-1]["clip/train/loss"], part_metrics[-1]["clip/train/loss"], atol=1e-6)


@pytest.mark.slow
def test_contrastive_micro_batches_replay_dropout():
  """The cached pass equals one graph over the same micro-batches and keys."""
  from vljax.train import gradients as g

  recipe, batch, micro, rng = toys.contrastive(dropout=0.5), pairs(), 4, jax.random.key(5)
  params, extras = recipe.init(jax.random.key(0), batch)
  cut, phase = tree.split(params, ".*"), recipe.phases[0]
  cached = g.gradients(phase, cut, params, cut.held(params), extras, batch, rng, micro).grads

  def one_graph(params):
    parts, keys = g.chunks(batch, micro), jax.random.split(rng, micro)
    each = [jax.tree.map(lambda x, i=i: x[i], parts) for i in range(micro)]
    z = [phase.embed(params, extras, part, key)[0] for part, key in zip(each, keys, strict=True)]
    z = g.whole(jax.tree.map(lambda *xs: jnp.stack(xs), *z))
    return g.total(phase, phase.join(params, z)[0], phase.weights(batch))

  chex.assert_trees_all_close(cached, jax.grad(one_graph)(params), atol=1e-6)
  other = g.gradients(phase, cut, params, cut.held(params), extras, batch, jax.random.key(6), micro).grads
  assert not np.allclose(other["image"], cached["image"]), "dropout does not depend on the key"


def test_batch_statistics_pass_whole_and_are_refused_in_micro_batches():
  state, _, _ = toys.run(toys.contrastive(statistics=True), {"train": pairs()}, steps=1)
  np.testing.assert_allclose(state.extras["mean"], 0.1 * pairs()["image"].mean(0), rtol=1e-5)
  with pytest.raises(ValueError, match="phase 'clip': 'mean' is a statistic of the whole batch"):
    toys.run(toys.contrastive(statistics=True), {"train": pairs()}, shares={"train": Share(micro=2)})


@pytest.mark.parametrize("micro", [4, 8])
def test_unlike_denominators_are_exact_under_micro_batches(micro):
  whole, a, _ = toys.run(toys.masked(), {"train": masks()})
  parts, b, _ = toys.run(toys.masked(), {"train": masks()}, shares={"train": Share(micro=micro)})
  chex.assert_trees_all_close(whole.params, parts.params, atol=1e-6)
  for name in ("loss", "tokens", "regions"):
    np.testing.assert_allclose(a[-1][f"mlm/train/{name}"], b[-1][f"mlm/train/{name}"], rtol=1e-5)


def test_batch_that_does_not_divide_into_micro_batches():
  with pytest.raises(ValueError, match="phase 'mlm': a batch of 8 does not divide into micro = 3 parts"):
    toys.run(toys.masked(), {"train": masks()}, shares={"train": Share(micro=3)})


@pytest.mark.slow
def test_gan_with_lazy_regulariser_and_shared_slot():
  recipe, batch = toys.gan(), {"x": toys.normal(1, 8, 3)}
  state, step = toys.start(recipe, batch)
  assert set(state.opt) == {"g", "d"}
  assert tree.count(state.opt["d"].mu) == 3
  traced = chex.assert_max_traces(step._step, n=2)
  step.jitted = jax.jit(traced, static_argnames="due", donate_argnames="state")
  for i in range(9):
    state, metrics = step(state, {"train": batch}, due_at(recipe, i))
    assert ("r1/train/loss" in metrics) == (i % 4 == 0)
  assert float(jnp.abs(state.extras["mean"]).sum()) > 0
  assert int(state.opt["d"].count) == 9 + 3, "r1 moves the discriminator's own slot"


def test_phases_that_share_a_slot_must_train_the_same_leaves():
  phase = lambda name, trains: Phase(name=name, loss=lambda *a: a, trains=trains, opt="d")
  with pytest.raises(ValueError, match="share the optimiser 'd' must train the same leaves; found 'a' and 'b'"):
    Recipe(init=lambda r, b: ({}, {}), phases=(phase("x", "a"), phase("y", "b")))


def streams():
  return {"pairs": {"x": toys.normal(1, 4, 3, 4)}, "video": {"x": toys.normal(2, 2, 7, 4)}}


def test_frozen_lm_with_weighted_streams_of_unlike_shapes():
  recipe, shares = toys.frozen_lm(), {"pairs": Share(1.0), "video": Share(0.2)}
  first, _ = toys.start(recipe, streams()["pairs"], shares=shares)
  before = np.asarray(first.params["lm"]["blocks"]["w"])
  state, history, _ = toys.run(recipe, streams(), shares=shares, steps=5)
  np.testing.assert_array_equal(before, state.params["lm"]["blocks"]["w"])
  assert tree.count(state.opt["lm"].mu) == 16, "frozen leaves have no slots"
  assert float(history[-1]["lm/video/loss"]) < float(history[0]["lm/video/loss"])


def test_frozen_leaves_take_the_compute_dtype():
  from vljax.train.state import Layout, initialise

  recipe, batch = toys.frozen_lm(), streams()["pairs"]
  state = initialise(recipe, Layout(recipe, batch), {}, jax.random.key(0), batch, frozen_dtype=jnp.bfloat16)
  assert state.params["lm"]["blocks"]["w"].dtype == jnp.bfloat16
  assert state.params["xattn"]["w"].dtype == jnp.float32


def test_partly_frozen_stack_keeps_its_held_layers_and_gives_them_no_slots():
  recipe = toys.frozen_lm()
  phase = Phase(name="lm", loss=recipe.phases[0].loss, trains=r"lm/blocks/2/w|xattn/w", streams=("pairs", "video"))
  recipe = Recipe(init=recipe.init, phases=(phase,))
  before, _ = toys.start(recipe, streams()["pairs"], shares={"pairs": Share(), "video": Share()})
  w = np.asarray(before.params["lm"]["blocks"]["w"])
  state, _, _ = toys.run(recipe, streams(), shares={"pairs": Share(), "video": Share()})
  np.testing.assert_array_equal(w[:2], state.params["lm"]["blocks"]["w"][:2])
  assert np.abs(w[2] - state.params["lm"]["blocks"]["w"][2]).max() > 1e-3
  assert state.opt["lm"].mu["lm"]["blocks"]["w"].shape == (1, 4, 4)


def test_layers_of_a_partly_frozen_stack_have_the_rates_of_their_own_names():
  """Held layers need no group; a group that names a live layer is found under that name, not its place among these."""
  recipe = toys.frozen_lm()
  phase = Phase(
    name="lm", loss=recipe.phases[0].loss, trains=r"lm/blocks/[12]/w", rates=lambda name: 3.0 if "/1/" in name else 1.0
  )
  recipe = Recipe(init=recipe.init, phases=(phase,))
  groups = ((r"lm/blocks/2/w", Group(lr=10.0)), (r"lm/blocks/1/w", Group()))
  layout = Layout(recipe, streams()["pairs"])
  optimiser = Optimiser(groups, lambda step: 0.1, layout.params, rates=phase.rates, cut=layout.splits["lm"])
  np.testing.assert_array_equal(optimiser.index["lm"]["blocks"]["w"], [1, 0])
  np.testing.assert_array_equal(optimiser.lr["lm"]["blocks"]["w"], [3.0, 10.0])


def test_accumulated_streams_are_the_weighted_sum_of_their_gradients():
  recipe, shares = toys.frozen_lm(), {"pairs": Share(1.0), "video": Share(0.2)}
  sgd = ((".*", Group(name="sgd", b1=0.0)),)
  start, _ = toys.start(recipe, streams()["pairs"], shares=shares, groups=sgd)
  w0 = np.asarray(start.params["xattn"]["w"])
  both, _, _ = toys.run(recipe, streams(), shares=shares, steps=1, groups=sgd)
  moves = {}
  for stream in ("pairs", "video"):
    phase = Phase(name="lm", loss=recipe.phases[0].loss, trains=".*xattn/.*", streams=(stream,))
    only, _, _ = toys.run(Recipe(init=recipe.init, phases=(phase,)), streams(), shares=shares, steps=1, groups=sgd)
    moves[stream] = np.asarray(only.params["xattn"]["w"]) - w0
  np.testing.assert_allclose(np.asarray(both.params["xattn"]["w"]) - w0, moves["pairs"] + moves["video"], atol=1e-6)


def test_round_robin_takes_one_stream_after_the_other():
  recipe = toys.frozen_lm()
  assert [due_at(recipe, i, "round_robin") for i in range(3)] == [
    (("lm", "pairs"),), (("lm", "video"),), (("lm", "pairs"),),
  ]  # fmt: skip


def test_merge_is_one_batch_of_all_streams():
  recipe = toys.frozen_lm()
  assert due_at(recipe, 0, "merge") == (("lm", "pairs+video"),)
  same = {"pairs": {"x": toys.normal(1, 4, 3, 4)}, "video": {"x": toys.normal(2, 4, 3, 4)}}
  merged, history, _ = toys.run(recipe, same, shares={}, combine="merge", steps=2)
  joined = {"pairs": {"x": jnp.concatenate([same["pairs"]["x"], same["video"]["x"]])}}
  one = Recipe(
    init=recipe.init, phases=(Phase(name="lm", loss=recipe.phases[0].loss, trains=".*xattn/.*", streams=("pairs",)),)
  )
  whole, _, _ = toys.run(one, joined, shares={}, steps=2)
  chex.assert_trees_all_close(merged.params, whole.params, atol=1e-6)
  assert "lm/pairs+video/loss" in history[0]


def test_merge_refuses_streams_of_unlike_structure_and_unlike_weights():
  recipe = toys.frozen_lm()
  with pytest.raises(ValueError, match="combine = 'merge' needs streams of equal structure; 'pairs' has"):
    toys.run(recipe, streams(), shares={}, combine="merge")
  with pytest.raises(ValueError, match="weight and micro must agree"):
    toys.run(recipe, streams(), shares={"pairs": Share(1.0), "video": Share(0.5)}, combine="merge")


def test_one_task_is_drawn_per_step_and_the_same_after_a_resume():
  recipe = toys.tasks()
  drawn = [due_at(recipe, i) for i in range(20)]
  assert len(set(drawn)) == 2
  assert [due_at(toys.tasks(), i) for i in range(10, 20)] == drawn[10:]
  state, history, _ = toys.run(recipe, {"train": {"x": toys.normal(1, 8, 4)}}, steps=6)
  assert ["mlm/train/loss" in m for m in history] == [d[0][0] == "mlm" for d in drawn[:6]]
  assert int(state.opt["adamw"].count) == 6


def drawing(calls, every=1):
  """Three phases on two streams whose losses report a draw of `prepare`, which is recorded as it is traced."""

  def prepare(batch, rng):
    calls.append(batch["x"].shape)
    return {**batch, "noise": jax.random.normal(rng, (len(batch["x"]),))}

  def loss(params, extras, batch, rng):
    return {"loss": jnp.sum(params["w"] * batch["x"][:, 0])}, {"noise": batch["noise"].mean()}, extras

  readers = (("g", ("a", "b"), 1), ("d", ("a",), 1), ("r", ("a",), every))
  phases = tuple(Phase(name=name, loss=loss, streams=streams, every=n, opt="o") for name, streams, n in readers)
  return Recipe(init=lambda rng, batch: ({"w": jnp.ones(())}, {}), phases=phases, prepare=prepare)


def drawn(recipe, combine="accumulate", steps=2, micro=1):
  batches = {"a": {"x": toys.normal(1, 8, 2)}, "b": {"x": toys.normal(2, 8, 2)}}
  shares = {name: Share(micro=micro) for name in batches}
  _, history, _ = toys.run(recipe, batches, steps, shares=shares, combine=combine)
  return [
    {name.removesuffix("/noise"): float(v) for name, v in row.items() if name.endswith("noise")} for row in history
  ]


def test_a_stream_is_prepared_once_a_step_for_all_of_its_phases():
  calls = []
  first, second = drawn(drawing(calls))
  assert len(calls) == 2, "one program, two streams"
  assert first["g/a"] == first["d/a"] == first["r/a"]
  assert len({first["g/a"], first["g/b"], second["g/a"], second["g/b"]}) == 4
  micro, _ = drawn(drawing([]), micro=4)
  assert micro == pytest.approx(first, rel=1e-5)


def test_a_lazy_phase_changes_no_draw_and_sees_the_same_one():
  calls = []
  always, lazy = drawn(drawing([])), drawn(drawing(calls, every=2))
  assert len(calls) == 2 * 2, "two programs, two streams"
  assert lazy == [always[0], {name: value for name, value in always[1].items() if name != "r/a"}]


@pytest.mark.slow
def test_streams_that_no_due_phase_reads_are_not_prepared():
  calls = []
  both, merged = drawn(drawing([]))[0], drawn(drawing(calls), "merge", 1)[0]
  assert calls == [(16, 2), (8, 2)]
  assert set(merged) == {"g/a+b", "d/a", "r/a"}
  assert merged["d/a"] == merged["r/a"] == both["d/a"]
  calls.clear()
  turns = drawn(drawing(calls), "round_robin")
  assert calls == [(8, 2)] * 3, "a at step 0, a and b at step 1"
  assert [list(row) for row in turns] == [["d/a", "g/a", "r/a"], ["d/a", "g/b", "r/a"]]


def test_one_phase_draws_by_the_key_that_it_always_had():
  state_rng, step, phase = jax.random.fold_in(jax.random.key(0), 1), 0, 0
  rng = jax.random.fold_in(jax.random.fold_in(state_rng, step), phase)
  (one,) = drawing([]).phases[:1]
  recipe = Recipe(init=drawing([]).init, phases=(one,), prepare=drawing([]).prepare)
  noise = lambda stream: jax.random.normal(jax.random.split(jax.random.fold_in(rng, stream))[0], (8,)).mean().item()
  assert drawn(recipe)[0] == pytest.approx({"g/a": noise(0), "g/b": noise(1)}, rel=1e-5)


def test_view_is_differentiated_once_and_leaves_the_stored_leaf():
  base = toys.masked()
  view = lambda params: jax.tree.map(lambda w: w / jnp.linalg.norm(w), params)
  viewed = Recipe(init=base.init, phases=base.phases, view=view)
  phase = base.phases[0]
  inside = Phase(
    name="mlm", weights=phase.weights, coefs=phase.coefs, loss=lambda params, *rest: phase.loss(view(params), *rest)
  )
  a, _, _ = toys.run(viewed, {"train": masks()}, shares={"train": Share(micro=4)})
  b, _, _ = toys.run(Recipe(init=base.init, phases=(inside,)), {"train": masks()})
  chex.assert_trees_all_close(a.params, b.params, atol=1e-6)


def test_update_that_is_not_finite_is_skipped_counted_and_named():
  recipe, batch = toys.masked(), masks()
  state, step = toys.start(recipe, batch, ema=Ema(halflife=10.0))
  due = due_at(recipe, 0)
  state, _ = step(state, {"train": batch}, due)
  kept = jax.tree.map(np.asarray, (state.params, state.opt, state.ema))
  state, metrics = step(state, {"train": {**batch, "b": batch["b"].at[0, 0].set(jnp.nan)}}, due)
  chex.assert_trees_all_equal(kept, jax.tree.map(np.asarray, (state.params, state.opt, state.ema)))
  assert (int(state.skipped), int(state.streak), int(state.step)) == (1, 1, 2)
  assert step.leaf_names(due)[int(metrics["first_bad"])] == "mlm: regions"
  state, metrics = step(state, {"train": batch}, due)
  assert (int(state.skipped), int(state.streak), int(metrics["first_bad"])) == (1, 0, -1)


def test_ema_follows_its_half_life_in_examples():
  batch = masks()
  state, _, _ = toys.run(toys.masked(), {"train": batch}, steps=1, ema=Ema(halflife=8.0))
  start, _ = toys.start(toys.masked(), batch)
  expected = jax.tree.map(lambda a, b: (a + b) / 2, start.params, state.params)
  chex.assert_trees_all_close(state.ema, expected, atol=1e-6)
  assert float(Ema(halflife=1e6, ramp=0.05).decay(jnp.zeros(()), 8)) == pytest.approx(0.5 ** (1 / 0.05))
