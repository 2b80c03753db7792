import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vljax import tree
from vljax.train import optim
from vljax.train.optim import Group, Optimiser


def params(seed=0):
  rng = np.random.default_rng(seed)
  make = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {"head": {"kernel": make(3, 4), "bias": make(4)}, "blocks": {"kernel": make(3, 4, 4), "bias": make(3, 4)}}


def run(groups, live, steps=3, rate=0.1, clip=None):
  """Parameters after steps of the optimiser, with gradients that depend on the step alone."""
  optimiser = Optimiser(tuple(groups), lambda step: jnp.float32(rate), live, clip)
  slots, reports, update = optimiser.init(live), [], jax.jit(optimiser.update)
  for step in range(steps):
    grads = gradients(live, step)
    updates, slots, report = update(grads, slots, live, jnp.int32(step))
    live, reports = optax.apply_updates(live, updates), [*reports, report]
  return live, slots, reports


def gradients(live, step):
  """Equal for a stacked tree and for its layers on their own."""
  seed = lambda name: [step, *name.replace("layer_", "blocks/").encode()]
  draw = lambda name, x: jnp.asarray(np.random.default_rng(seed(name)).normal(size=x.shape), jnp.float32)
  return tree.stack({name: draw(name, x) for name, x in tree.unstack(live).items()})


def close(a, b, atol=1e-6):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


@pytest.mark.slow
def test_adamw_equals_optax_with_masks():
  live = params()
  ours, _, reports = run([(".*bias", Group(b2=0.98)), (".*", Group(b2=0.98, wd=0.3))], live)
  decayed = jax.tree.map_with_path(lambda keys, _: not tree.path(keys).endswith("bias"), live)
  theirs = optax.adamw(0.1, b2=0.98, weight_decay=0.3, mask=decayed)
  state, expected = theirs.init(live), live
  for step in range(3):
    updates, state = theirs.update(gradients(live, step), state, expected)
    expected = optax.apply_updates(expected, updates)
  close(ours, expected)
  assert float(reports[0]["lr"]) == pytest.approx(0.1)
  assert float(reports[0]["grad_norm"]) == pytest.approx(float(optax.tree.norm(gradients(live, 0))), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "theirs"),
  [("lion", optax.lion(0.1, b1=0.9, b2=0.999, weight_decay=0.2)), ("sgd", optax.sgd(0.1, momentum=0.9))],
)
def test_other_rules_equal_optax(name, theirs):
  live = params()
  ours, _, _ = run([(".*", Group(name=name, wd=0.2 if name == "lion" else 0.0))], live)
  state, expected = theirs.init(live), live
  for step in range(3):
    updates, state = theirs.update(gradients(live, step), state, expected)
    expected = optax.apply_updates(expected, updates)
  close(ours, expected)


def test_the_first_match_wins():
  groups = (("head/.*", Group(lr=2.0)), (".*bias", Group(lr=3.0)), (".*", Group()))
  index = Optimiser(groups, lambda step: 0.1, params()).index
  assert tree.flatten(index)["head/bias"] == 0
  np.testing.assert_array_equal(tree.flatten(index)["blocks/bias"], [1, 1, 1])
  np.testing.assert_array_equal(tree.flatten(index)["blocks/kernel"], [2, 2, 2])


def test_layers_of_a_stack_get_their_own_rate_decay_and_clip():
  """A stacked leaf with vectors over its layers moves as its layers would on their own."""
  stacked = {"blocks": params()["blocks"], "head": params()["head"]}
  apart = tree.unflatten({k.replace("blocks/", "layer_"): v for k, v in tree.unstack(stacked).items()})
  groups = [
    (".*0/.*", Group(lr=0.1, wd=0.5, clip=0.2)),
    (".*1/.*", Group(lr=3.0)),
    (".*2/bias", Group(wd=2.0)),
    (".*", Group(lr=0.7, clip=1.0)),
  ]
  ours, _, _ = run(groups, stacked)
  expected, _, _ = run(groups, apart)
  ours = {k.replace("blocks/", "layer_"): v for k, v in tree.unstack(ours).items()}
  close(ours, tree.flatten(expected))


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_clipping_of_a_group_is_that_of_numpy(limit):
  live = params()
  sgd = dict(name="sgd", b1=0.0)
  moved, _, _ = run([("blocks/1/.*", Group(clip=limit, **sgd)), (".*", Group(**sgd))], live, steps=1, rate=1.0)
  grads = tree.unstack(gradients(live, 0))
  norm = np.sqrt(sum(np.sum(np.square(g)) for name, g in grads.items() if name.startswith("blocks/1/")))
  for name, before in tree.unstack(live).items():
    factor = min(1.0, limit / norm) if name.startswith("blocks/1/") else 1.0
    np.testing.assert_allclose(tree.unstack(moved)[name], before - factor * grads[name], atol=1e-6)


def test_clipping_of_all_is_that_of_numpy():
  live = params()
  moved, _, reports = run([(".*", Group(name="sgd", b1=0.0))], live, steps=1, rate=1.0, clip=0.5)
  grads = gradients(live, 0)
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
  close(moved, jax.tree.map(lambda p, g: p - g * 0.5 / norm, live, grads))
  assert float(reports[0]["grad_norm"]) == pytest.approx(norm, rel=1e-6), "the norm is that before clipping"


def convolutions():
  """A small network's leaves of all kinds, some stacked."""
  rng = np.random.default_rng(3)
  make = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  attention = {"query": {"kernel": make(3, 4, 2, 3), "bias": make(3, 2, 3)}, "out": {"kernel": make(3, 2, 3, 4)}}
  return {
    "image": {"stem": {"kernel": make(3, 3, 2, 4), "gain": make(4), "bias": 1e-6 * make(4)}, "blocks": {
      "conv": {"kernel": make(2, 3, 3, 2, 4), "gain": make(2, 4)}, "skip_gain": jnp.zeros(2)}},
    "text": {"blocks": {"attention": attention}, "token": {"embedding": make(5, 4)}},
    "classifier": {"kernel": make(4, 3), "bias": make(3)},
  }  # fmt: skip


UNITS = {
  r".*(stem|conv)/kernel": (0, 1, 2), r".*query/kernel": (0,), r".*out/kernel": (0, 1), r".*embedding": (1,),
  r"classifier/kernel": (0,), r".*(bias|gain)": None,
}  # fmt: skip
"""Unstacked name to the axes of a unit; None: all of them."""


def adaptively_clipped(name, grad, leaf, limit, eps=1e-3, element=False):
  """arXiv 2102.06171, equation 3, in numpy, for one layer."""
  axes = next(axes for regex, axes in UNITS.items() if re.fullmatch(regex, name))
  axes = (() if element else tuple(range(leaf.ndim))) if axes is None else axes
  norm = lambda x: np.sqrt(np.sum(np.square(np.asarray(x, np.float64)), axis=axes, keepdims=True))
  most = limit * np.maximum(norm(leaf), eps)
  return np.where(norm(grad) > most, grad * most / norm(grad), grad)


@pytest.mark.slow
@pytest.mark.parametrize("vectors", ["whole", "element"])
@pytest.mark.parametrize("limit", [0.01, 0.9])
def test_adaptive_clipping_is_that_of_numpy_layer_by_layer(limit, vectors):
  live, sgd = convolutions(), dict(name="sgd", b1=0.0)
  groups = [("classifier/.*", Group(**sgd)), (".*", Group(agc=limit, agc_vectors=vectors, **sgd))]
  moved, _, _ = run(groups, live, steps=1, rate=1.0)
  grads, moved = tree.unstack(gradients(live, 0)), tree.unstack(moved)
  clipped = 0
  for name, before in tree.unstack(live).items():
    wanted = grads[name]
    if not name.startswith("classifier/"):
      wanted = adaptively_clipped(name, wanted, before, limit, element=vectors == "element")
    clipped += bool(np.any(wanted != grads[name]))
    np.testing.assert_allclose(before - moved[name], wanted, rtol=1e-4, atol=2e-6, err_msg=name)
  assert clipped >= 5


@pytest.mark.slow
def test_adaptive_and_global_clipping_live_side_by_side():
  """Flamingo's vision encoder: the image tower by its units, the text tower by its norm (arXiv 2204.14198, B.1.3)."""
  live, sgd = convolutions(), dict(name="sgd", b1=0.0)
  groups = [("image/.*", Group(agc=0.01, **sgd)), ("text/.*", Group(clip=0.5, **sgd)), (".*", Group(**sgd))]
  moved, _, _ = run(groups, live, steps=1, rate=1.0)
  grads, moved = tree.unstack(gradients(live, 0)), tree.unstack(moved)
  norm = np.sqrt(sum(np.sum(np.square(g)) for name, g in grads.items() if name.startswith("text/")))
  assert norm > 0.5
  for name, before in tree.unstack(live).items():
    wanted = {
      "image": lambda n, b: adaptively_clipped(n, grads[n], b, 0.01),
      "text": lambda n, b: grads[n] * 0.5 / norm,
      "classifier": lambda n, b: grads[n],
    }[name.split("/")[0]](name, before)
    np.testing.assert_allclose(before - moved[name], wanted, rtol=1e-4, atol=2e-6, err_msg=name)


def test_layers_have_their_own_adaptive_limits():
  live, sgd = convolutions()["image"]["blocks"], dict(name="sgd", b1=0.0)
  live = {"blocks": {"conv": {"kernel": live["conv"]["kernel"]}}}
  moved, _, _ = run([("blocks/0/.*", Group(agc=0.02, **sgd)), (".*", Group(**sgd))], live, steps=1, rate=1.0)
  grads = gradients(live, 0)["blocks"]["conv"]["kernel"]
  update = np.asarray(live["blocks"]["conv"]["kernel"] - moved["blocks"]["conv"]["kernel"])
  wanted = adaptively_clipped("conv/kernel", grads[0], live["blocks"]["conv"]["kernel"][0], 0.02)
  np.testing.assert_allclose(update[0], wanted, rtol=1e-4, atol=2e-6)
  np.testing.assert_allclose(update[1], grads[1], rtol=1e-5, atol=1e-6)
  mixed = (("blocks/0/.*", Group(agc=0.02)), (".*", Group(agc=0.02, agc_vectors="element")))
  with pytest.raises(ValueError, match=r"the layers of 'blocks/conv/kernel' fall under different agc_vectors"):
    run(mixed, live, steps=1)


def test_bfloat16_momentum():
  live = params()
  moved, slots, _ = run([(".*", Group(mu_dtype="bfloat16"))], live)
  assert {x.dtype for x in jax.tree.leaves(slots.mu)} == {jnp.dtype(jnp.bfloat16)}
  assert {x.dtype for x in jax.tree.leaves(slots.nu)} == {jnp.dtype(jnp.float32)}
  assert {x.dtype for x in jax.tree.leaves(moved)} == {jnp.dtype(jnp.float32)}
  close(moved, run([(".*", Group())], live)[0], atol=2e-3)


def test_bfloat16_second_moment():
  live = params()
  moved, slots, _ = run([(".*", Group(mu_dtype="bfloat16", nu_dtype="bfloat16"))], live)
  assert {x.dtype for x in jax.tree.leaves((slots.mu, slots.nu))} == {jnp.dtype(jnp.bfloat16)}
  close(moved, run([(".*", Group())], live)[0], atol=2e-3)
  again, same, _ = run([(".*", Group(mu_dtype="bfloat16", nu_dtype="bfloat16"))], live)
  close((moved, slots.nu), (again, same.nu), atol=0)


def test_a_second_moment_in_bfloat16_follows_small_steps():
  """With b2 = 0.999 each step moves it by less than half the distance of neighbors; the mean moves all the same."""
  transform, ones = optim.transformation(optim.Rule(nu_dtype="bfloat16")), jnp.ones(2000)
  state = transform.init(ones)
  state = state._replace(nu=ones.astype(jnp.bfloat16), count=jnp.int32(1000))
  update = jax.jit(lambda state: transform.update(0 * ones, state)[1])
  for _ in range(100):
    state = update(state)
  assert float(state.nu.astype(jnp.float32).mean()) == pytest.approx(0.999**100, abs=2e-3)
  assert float(jnp.bfloat16(1.0) * jnp.bfloat16(0.999)) == 1.0


@pytest.mark.slow
def test_rounding_at_random_is_right_on_average():
  x = jnp.asarray([1.0, 1.001, 0.0, 3.1e-7, 257.3], jnp.float32)
  drawn = optim.round_at_random(jnp.broadcast_to(x, (20_000, 5)), jax.random.key(0)).astype(jnp.float32)
  np.testing.assert_allclose(drawn.mean(0), x, rtol=2e-4)
  assert len(np.unique(drawn[:, 1])) == 2
  np.testing.assert_array_equal(drawn[:, 0], 1.0)


@pytest.mark.slow
def test_rates_per_layer_multiply_those_of_the_groups():
  live = params()
  factor = lambda name: {"blocks/0": 0.25, "blocks/2": 2.0}.get(name[:8], 1.0)
  optimiser = Optimiser(((".*", Group(lr=3.0)),), lambda step: jnp.float32(0.1), live, None, factor)
  grads = gradients(live, 0)
  updates, _, _ = optimiser.update(grads, optimiser.init(live), live, jnp.int32(0))
  plain = Optimiser(((".*", Group(lr=3.0)),), lambda step: jnp.float32(0.1), live)
  expected, _, _ = plain.update(grads, plain.init(live), live, jnp.int32(0))
  for name, update in tree.unstack(updates).items():
    np.testing.assert_allclose(update, factor(name) * tree.unstack(expected)[name], rtol=1e-6)


def test_leaves_under_different_rules_have_different_slots():
  live = params()
  _, slots, _ = run([("head/.*", Group(name="sgd")), (".*", Group())], live)
  assert tree.count(slots) == tree.count(live) + tree.count(live["blocks"]) + 1, "momentum; mu, nu and a count"


def test_layers_of_one_stack_must_share_the_rule():
  message = "^the layers of 'blocks/bias' fall under different update rules: .*name='adamw'.*name='sgd'"
  with pytest.raises(ValueError, match=message):
    Optimiser((("blocks/0/.*", Group(name="sgd")), (".*", Group())), lambda step: 0.1, params())


def test_a_leaf_that_no_group_matches():
  message = "no group of config.optim matches 'head/bias'; its regexes: blocks/.*, head/kernel"
  with pytest.raises(ValueError, match="^" + re.escape(message)):
    Optimiser((("blocks/.*", Group()), ("head/kernel", Group())), lambda step: 0.1, params())


def test_a_regex_that_is_the_first_match_of_nothing():
  names = list(tree.unstack(params()))
  optim.check(((".*bias", Group()), (".*", Group())), names)
  message = r"^config.optim: the regex '\.\*biass' is the first match of no trained parameter$"
  with pytest.raises(ValueError, match=message):
    optim.check(((".*biass", Group()), (".*", Group())), names)


def test_what_is_no_regex():
  with pytest.raises(ValueError, match=r"^config.optim: the regex 'te\(xt' is no regular expression: missing \)"):
    optim.match((("te(xt", Group()),), "text/pos")


def test_table_of_what_gets_what():
  live = params()
  groups = (("head/bias", Group(agc=0.01)), (".*bias", Group()), (".*", Group(wd=0.2, clip=1.0)))
  assert Optimiser(groups, lambda step: 0.1, live).table(live) == [
    ("head/bias", "adamw lr x1 wd 0 agc 0.01", "1 leaves, 4"),
    (".*bias", "adamw lr x1 wd 0", "3 leaves, 12"),
    (".*", "adamw lr x1 wd 0.2 clip 1", "4 leaves, 60"),
  ]


def lars(live, rate, wd, eta, momentum, steps, decayed):
  """The rule in numpy, layer by layer, as released SimCLR has it."""
  w = {name: np.array(leaf, np.float64) for name, leaf in tree.unstack(live).items()}
  v = {name: np.zeros_like(leaf) for name, leaf in w.items()}
  for step in range(steps):
    g = tree.unstack(gradients(live, step))
    for name in w:
      slope, trust = np.asarray(g[name], np.float64), 1.0
      if decayed(name):
        slope = slope + wd * w[name]
        norms = np.linalg.norm(w[name]), np.linalg.norm(slope)
        trust = eta * norms[0] / norms[1] if min(norms) > 0 else 1.0
      v[name] = momentum * v[name] + rate(step) * trust * slope
      w[name] = w[name] - v[name]
  return w


@pytest.mark.slow
def test_lars_equals_its_definition_layer_by_layer():
  live = params()
  live["head"]["kernel"] = jnp.zeros((3, 4))  # a norm of zero: no trust ratio
  groups = ((".*bias", Group(name="lars", eta=None, b1=0.8)), (".*", Group(name="lars", eta=0.02, wd=0.3, b1=0.8)))
  rate = lambda step: 0.5 / (1 + step)
  optimiser = Optimiser(groups, lambda step: jnp.float32(rate(step)), live)
  ours, slots = live, optimiser.init(live)
  for step in range(4):
    updates, slots, _ = optimiser.update(gradients(live, step), slots, ours, jnp.int32(step))
    ours = optax.apply_updates(ours, updates)
  expected = lars(live, rate, 0.3, 0.02, 0.8, 4, lambda name: not name.endswith("bias"))
  for name, leaf in tree.unstack(ours).items():
    np.testing.assert_allclose(leaf, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_lars_equals_optax_where_nothing_is_stacked():
  live = {"head": params()["head"]}
  groups = [(".*bias", Group(name="lars", eta=None)), (".*", Group(name="lars", wd=0.1))]
  ours, _, _ = run(groups, live)
  decayed = {"head": {"kernel": True, "bias": False}}
  theirs = optax.lars(0.1, 0.1, weight_decay_mask=decayed, trust_ratio_mask=decayed)
  state, expected = theirs.init(live), live
  for step in range(3):
    updates, state = theirs.update(gradients(live, step), state, expected)
    expected = optax.apply_updates(expected, updates)
  close(ours, expected)


@pytest.mark.slow
def test_lamb_equals_optax_layer_by_layer():
  live = params()
  groups = [(".*bias", Group(name="lamb", eps=1e-6)), (".*", Group(name="lamb", wd=0.1, eps=1e-6))]
  ours, _, _ = run(groups, live)
  layers = tree.unstack(live)  # each layer of a stack has a norm of its own
  theirs = optax.lamb(0.1, weight_decay=0.1, mask={name: not name.endswith("bias") for name in layers})
  state, expected = theirs.init(layers), layers
  for step in range(3):
    updates, state = theirs.update(tree.unstack(gradients(live, step)), state, expected)
    expected = optax.apply_updates(expected, updates)
  for name, leaf in tree.unstack(ours).items():
    np.testing.assert_allclose(leaf, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
