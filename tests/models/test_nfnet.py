import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import tree
from vljax.models import fitting, nfnet

# timm's nfnet_f* with 1,000 classes, and a gain of SkipInit for each block, which its dm_nfnet_f* have.
COUNTS = {
  "F0": 71_489_284, "F1": 132_634_256, "F2": 193_779_228, "F3": 254_924_200, "F4": 316_069_172, "F5": 377_214_144,
  "F6": 438_359_116, "F7": 499_504_088,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
  assert tree.count(fitting.abstract(nfnet.build(name, num_classes=1000))) == COUNTS[name]


@pytest.mark.slow
def test_the_vision_encoder_of_flamingo_has_435_million_parameters():
  assert tree.count(fitting.abstract(nfnet.build("F6"))) == 435_286_116


@pytest.mark.slow
def test_without_skip_init_there_is_one_number_less_for_each_block():
  assert tree.count(fitting.abstract(nfnet.build("F7", num_classes=1000, skip_init=False))) == 499_503_992


def small(**overrides):
  """Two stages, of one block and of three: no stack, and a stack of two."""
  sizes = dict(depths=(1, 3), widths=(16, 32), stem=(4, 8, 8, 12), head=24, bottleneck=0.5)
  return nfnet.build("test", **{**sizes, **overrides})


def draw(model, seed=0):
  """Parameters whose gains, biases and SkipInit gains are not those of the start."""
  rng = np.random.default_rng(seed)

  def make(keys, leaf):
    name = tree.path(keys)
    if name.endswith("gain"):
      return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
    scale = 0.1 if name.endswith("bias") else np.prod(leaf.shape[:-1]) ** -0.5
    return jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32)

  return jax.tree.map_with_path(make, fitting.abstract(model))


@pytest.fixture(scope="module")
def image():
  return np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)


def apply(model, params, image, **options):
  return jax.jit(lambda p, x: model.apply({"params": p}, x, **options))(params, image)


@pytest.mark.slow
def test_the_feature_is_the_mean_of_the_grid(image):
  params = draw(small())
  wide = np.concatenate([image, image[::-1]], axis=2)
  grid = apply(small(), params, wide, method="grid")
  assert grid.shape == (2, 4, 8, 24)
  np.testing.assert_array_equal(apply(small(pool="none"), params, wide), grid)
  np.testing.assert_allclose(apply(small(), params, wide), grid.mean((1, 2)), rtol=1e-5, atol=1e-6)
  assert nfnet.build("F0").width == 3072
  assert nfnet.build("f0+").width == 4096


@pytest.mark.slow
@pytest.mark.parametrize("rules", [dict(), dict(eps="timm", gamma="kernel", skip_init=False, activation="gelu")])
def test_folded_kernels_compute_the_same(image, rules):
  model = small(**rules)
  params = draw(model)
  folded = model.fold(params)
  assert jax.tree.structure(folded) == jax.tree.structure(params)
  kept = [name for name, leaf in tree.flatten(folded).items() if leaf is tree.flatten(params)[name]]
  assert all(not name.endswith("kernel") or "/se/" in name for name in kept)
  wanted = apply(model, params, image)
  found = apply(model.clone(folded=True), folded, image)
  np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
  assert np.abs(apply(model.clone(folded=True), params, image) - wanted).max() > 0.01 * np.abs(wanted).max()
  again = model.clone(folded=True).fold(folded)
  assert tree.flatten(again)["final/kernel"] is tree.flatten(folded)["final/kernel"]


@pytest.mark.slow
def test_a_loop_over_blocks_and_remat_compute_the_same(image):
  params = draw(small())
  wanted = apply(small(), params, image)
  for options in (dict(unroll=1), dict(unroll=1, remat="full")):
    np.testing.assert_allclose(apply(small(**options), params, image), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.slow
def test_blocks_of_a_stage_differ_in_beta_alone():
  """A stage is its blocks one after the other, whose inputs have the variances 1, 1 + alpha^2, 1 + 2 alpha^2."""
  model = small()
  params = draw(model)
  x = np.random.default_rng(2).normal(size=(2, 4, 4, 16)).astype(np.float32)
  stage = params["stage_1"]

  def by_hand(stage, x):
    style = model.bind({"params": params}).style
    run = lambda params, x, i, **options: nfnet.NFBlock(32, 16, 2, 8, style, **options).apply(
      {"params": params}, x, beta=(1 + i * 0.2**2) ** -0.5
    )
    x = run(stage["first"], x, 1, stride=2)  # after the one block of the stage before
    for i in range(2):
      x = run(jax.tree.map(lambda p, i=i: p[i], stage["blocks"]), x, i + 1)
    return x

  wanted = jax.jit(by_hand)(stage, x)
  found = jax.jit(lambda p, x: model.apply({"params": p}, x, method=lambda m, x: m.stage[1](x)))(params, x)
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_variance_stays_near_one_at_the_start():
  """Through branches that are not zero, as the theory of section 2 has it."""
  model = small(depths=(3, 5), unroll=1)
  params = draw(model)
  ones = lambda keys, x: jnp.ones_like(x) if tree.path(keys).endswith("gain") else x
  params = jax.tree.map_with_path(ones, params)
  x = np.random.default_rng(3).normal(size=(8, 8, 8, 16)).astype(np.float32)
  x = x.repeat(2, axis=1).repeat(2, axis=2)  # alike where the shortcut averages
  y = np.asarray(apply(model, params, x, method=lambda m, x: m.final(m.stage[1](x))))
  assert 0.6 < y.var() < 1.6


@pytest.mark.slow
def test_skipped_blocks_are_drawn_in_training_only(image):
  model = small(drop_path=0.9)
  params = draw(model)
  run = jax.jit(lambda p, x, key: model.apply({"params": p}, x, train=True, rngs={"dropout": key}))
  a, b, again = (run(params, image, jax.random.key(seed)) for seed in (0, 1, 0))
  assert np.abs(a - b).max() > 1e-3
  np.testing.assert_array_equal(a, again)
  np.testing.assert_array_equal(apply(model, params, image), apply(small(), params, image))
  assert nfnet.build("F0").drops == tuple(0.25 * i / 12 for i in range(12))


def test_what_is_kept_is_not_rescaled_unless_asked():
  x = jnp.ones((1000, 2, 2, 1))
  for scaled, kept in ((False, 1.0), (True, 4.0)):
    y = np.asarray(nfnet.skip(jax.random.key(0), x, 0.75, scaled))
    assert set(np.unique(y)) == {0.0, np.float32(kept)}
    assert (y == y[:, :1, :1]).all()
    assert (y > 0).mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.slow
def test_half_precision_stays_and_gradients_are_those_of_float32_parameters(image):
  model = small(depths=(1,), widths=(16,), dtype="bfloat16")
  params = draw(model)
  assert apply(model, params, image).dtype == jnp.bfloat16
  loss = jax.jit(jax.grad(lambda p: model.apply({"params": p}, image).astype(jnp.float32).sum()))
  gradients = tree.flatten(loss(params))
  assert {g.dtype for g in gradients.values()} == {jnp.dtype("float32")}
  assert not [name for name, g in gradients.items() if not np.any(g)]


@pytest.mark.slow
@pytest.mark.parametrize(("skip_init", "zero"), [(True, "skip_gain"), (False, "gain")])
def test_branches_and_biases_start_at_zero(image, skip_init, zero):
  model = small(depths=(1,), widths=(16,), skip_init=skip_init, num_classes=3)
  made = jax.jit(lambda key: nn.meta.unbox(model.init(key, image))["params"])(jax.random.key(0))
  assert {name.split("/")[-1] for name, leaf in tree.flatten(made).items() if not np.any(leaf)} == {"bias", zero}
  logits = apply(model, made, image)
  assert logits.shape == (2, 3)
  assert np.any(logits)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (dict(eps="deepmnd"), "unknown eps of NFNet 'deepmnd'; did you mean 'deepmind'"),
    (dict(activation="quick_gelu"), "unknown activation of NFNet 'quick_gelu'; .*gelu"),
    (dict(gamma="kernels"), "unknown gamma of NFNet 'kernels'; did you mean 'kernel'"),
    (dict(padding="SAME"), "unknown padding of NFNet 'SAME'; .*same"),
    (dict(pool="max"), "unknown pool of NFNet 'max'"),
    (dict(group_width=64), "groups of 64 channels do not fit into the 8 inner channels of a stage of NFNet"),
    (dict(pool="none", num_classes=3), "num_classes = 3 of NFNet needs a pooled feature"),
  ],
)
def test_unknown_values_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    nfnet.build("test", **options)


@pytest.mark.slow
def test_the_view_is_of_the_part_that_has_something_to_fold():
  from vljax.models import dual_encoder

  text = dict(variant="test")
  plain = dual_encoder.build_from(image=dict(variant="test"), text=text)
  assert nfnet.viewed(plain, "image") == (plain, None)
  model = dual_encoder.build_from(image=dict(tower="nfnet", variant="test"), text=text)
  inner, view = nfnet.viewed(model, "image")
  assert inner.image == model.image.clone(folded=True)
  assert nfnet.viewed(inner, "image") == (inner, None)
  params = {"image": draw(model.image), "log_scale": jnp.ones(())}
  assert view(params)["log_scale"] is params["log_scale"]
  assert np.any(view(params)["image"]["final"]["kernel"] != params["image"]["final"]["kernel"])
