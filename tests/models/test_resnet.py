import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import tree
from vljax.models import fitting, modified_resnet, resnet

# timm's and torchvision's counts without the classifier; with widths, table 1 of SimCLRv2 rounded to millions.
COUNTS = {"resnet18": 11_176_512, "resnet34": 21_284_672, "resnet50": 23_508_032, "resnet101": 42_500_160}
MILLIONS = {
  ("resnet50", 2, 0): 94, ("resnet50", 1, 0.0625): 35, ("resnet50", 2, 0.0625): 140, ("resnet101", 1, 0): 43,
  ("resnet101", 2, 0.0625): 257, ("resnet152", 1, 0): 58, ("resnet152", 2, 0): 233, ("resnet152", 3, 0.0625): 795,
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
  assert tree.count(fitting.abstract(resnet.build(name))) == COUNTS[name]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width", "sk"), MILLIONS)
def test_parameter_counts_of_simclr(name, width, sk):
  model = resnet.build(name, width_multiplier=width, sk_ratio=sk, stem="deep" if sk else "imagenet")
  count = tree.count(fitting.abstract(model))
  assert round(count / 1e6) == pytest.approx(MILLIONS[name, width, sk], abs=1)
  assert model.width == 2048 * width


@pytest.mark.slow
@pytest.mark.parametrize(
  "options", [{}, {"stem": "imagenet"}, {"stem": "deep", "bottleneck": True, "sk_ratio": 0.0625}]
)
def test_a_new_network_is_its_shortcuts(options):
  """The last norm of each block starts at zero, so that a block passes on what it gets."""
  model = resnet.build("test", num_classes=3, **options)
  image = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
  variables = model.init(jax.random.key(0), image)
  logits, new = model.apply(variables, image, train=True, mutable="batch_stats")
  assert logits.shape == (4, 3)
  np.testing.assert_array_equal(logits, 0)  # the classifier starts at zero, too
  assert jax.tree.structure(new["batch_stats"]) == jax.tree.structure(variables["batch_stats"])
  lasts = [p.unbox() for k, p in jax.tree.leaves_with_path(variables["params"], is_leaf=lambda x: hasattr(x, "unbox"))
           if "norm_3" in str(k) and "scale" in str(k)]  # fmt: skip
  for scale in lasts:
    np.testing.assert_array_equal(scale, 0)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [6, 7])
def test_shortcuts_beside_selective_kernels_average_first(stride, size):
  """By windows of 2 x 2 that at stride 1 end at the edge and at stride 2 go on in zeros, as in SimCLRv2's code."""
  block = resnet.ResidualBlock(
    2, stride, bottleneck=True, project=True, sk_ratio=0.0625, kernel_init=resnet.INITS["fan_out"], dtype="float32"
  )
  x = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
  variables = block.init(jax.random.key(0), x, train=False)
  mean = lambda window: window.mean((1, 2)) if stride == 1 else window.sum((1, 2)) / 4
  starts = range(0, size, stride)
  pooled = np.stack([np.stack([mean(x[:, i : i + 2, j : j + 2]) for j in starts], 1) for i in starts], 1)
  kernel = variables["params"]["conv_shortcut"]["kernel"].unbox()[0, 0]
  expected = np.maximum(pooled @ kernel / np.sqrt(1 + 1e-5), 0)
  np.testing.assert_allclose(block.apply(variables, x, train=False), expected, atol=1e-5)


def test_an_unknown_stem_names_the_nearest():
  with pytest.raises(ValueError, match="stem of ResNet 'cifra'; did you mean 'cifar'"):
    fitting.abstract(resnet.build("test", stem="cifra"))


@pytest.mark.slow
@pytest.mark.parametrize("build", [resnet.build, modified_resnet.build])
def test_blocks_that_are_computed_again_change_nothing_but_memory(build):
  """The gradient and the moved statistics are the same; less is kept for the backward pass."""
  image = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
  made = build("test").init(jax.random.key(0), image)
  # The last gains start at zero, where nothing flows back into a block's first layers.
  params = jax.tree.map(lambda p: p + 0.1, made["params"])

  def step(remat):
    def loss(params):
      x, new = build("test", remat=remat).apply({**made, "params": params}, image, train=True, mutable="batch_stats")
      return jnp.square(x).mean(), new

    forward = lambda params: jax.vjp(lambda p: loss(p)[0], params)[1]
    kept = sum(x.size for x in jax.tree.leaves(jax.eval_shape(forward, params)) if x.shape[:1] == (4,))
    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params), kept

  (plain, plain_kept), (again, again_kept) = step("none"), step("full")
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), plain, again)
  assert again_kept < plain_kept / 2


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "variance"), [("fan_out", lambda n, m: 2 / (9 * m)), ("fan_in", lambda n, m: 1 / (9 * n))]
)
def test_kernels_are_drawn_by_rule(name, variance):
  """`fan_in` as TensorFlow's variance_scaling_initializer has it: truncated at two of its deviations."""
  params = jax.jit(resnet.build("test", conv_init=name).init)(jax.random.key(0), np.zeros((1, 16, 16, 3)))["params"]
  kernel = np.asarray(params["group_1_0"]["conv_1"]["kernel"].unbox())
  wanted = variance(*kernel.shape[2:])
  assert kernel.var() == pytest.approx(wanted, rel=0.03)
  assert (np.abs(kernel).max() < 2.3 * wanted**0.5) == (name == "fan_in")


def test_an_unknown_rule_is_answered_with_the_nearest():
  with pytest.raises(ValueError, match="unknown conv_init of ResNet 'fan_inn'; did you mean 'fan_in'"):
    resnet.build("test", conv_init="fan_inn")


def test_an_unknown_remat_policy_is_answered_with_the_nearest():
  with pytest.raises(ValueError, match="unknown remat policy 'ful'.*full"):
    resnet.build("test", remat="ful").init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
