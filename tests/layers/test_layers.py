import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.layers.attention import Attention
from vljax.layers.block import Block, Stack
from vljax.layers.embed import TokenEmbed
from vljax.layers.linear import Linear
from vljax.layers.mlp import ACTIVATIONS, Mlp
from vljax.layers.norm import LayerNorm
from vljax.layers.patch import PatchEmbed, patch_dropout
from vljax.parallel import Axis


def draw(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def init(module, *inputs, **options):
  return nn.meta.unbox(module.init(jax.random.key(0), *inputs, **options)["params"])


def noisy(params, seed=7):
  """Parameters away from their starting values, so that biases and scales count."""
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  return structure.unflatten([p + 0.1 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)])


def test_linear_contracts_several_axes():
  module = Linear((5,), (Axis.HEADS, Axis.HEAD_DIM, Axis.EMBED), nn.initializers.normal(1.0))
  x = draw(0, 2, 3, 4, 6)
  params = noisy(init(module, x))
  want = np.einsum("btkd,kdw->btw", x, params["kernel"]) + params["bias"]
  np.testing.assert_allclose(module.apply({"params": params}, x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_layer_norm_equals_flax_and_computes_in_float32():
  x = 30 + draw(0, 4, 5, 32)
  params = noisy(init(LayerNorm(), x))
  want = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False).apply({"params": params}, x)
  np.testing.assert_allclose(LayerNorm().apply({"params": params}, x), want, atol=1e-5)
  half = LayerNorm(dtype="bfloat16").apply({"params": params}, x.astype(jnp.bfloat16))
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(half.astype(jnp.float32), want, atol=0.5)


@pytest.mark.slow
def test_layer_norm_gradients_equal_flax():
  x = draw(0, 4, 5, 32)
  params = noisy(init(LayerNorm(), x))
  loss = lambda module: jax.grad(lambda p, x: jnp.sin(module.apply({"params": p}, x)).sum(), (0, 1))(params, x)
  want = loss(nn.LayerNorm(epsilon=1e-5, use_fast_variance=False))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), loss(LayerNorm()), want)


@pytest.mark.parametrize(
  ("name", "values"),
  [
    ("gelu", [-0.15865525, 0.0, 0.84134475]),
    ("gelu_tanh", [-0.15880801, 0.0, 0.841192]),
    ("quick_gelu", [-0.15420423, 0.0, 0.8457958]),
    ("relu", [0.0, 0.0, 1.0]),
    ("silu", [-0.26894143, 0.0, 0.7310586]),
    ("squared_relu", [0.0, 0.0, 1.0]),
  ],
)
def test_activations(name, values):
  np.testing.assert_allclose(ACTIVATIONS[name](jnp.array([-1.0, 0.0, 1.0])), values, atol=1e-6)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "quick_gelu"])
def test_activation_gradients_stay_finite_far_out(name):
  x = jnp.array([-1e4, -80.0, -1e-3, 80.0, 1e4])
  assert np.isfinite(jax.vmap(jax.grad(ACTIVATIONS[name]))(x)).all()


def test_unknown_activation_names_the_nearest():
  with pytest.raises(ValueError, match="unknown activation 'quickgelu'; did you mean 'quick_gelu'"):
    Mlp(8, "quickgelu").init(jax.random.key(0), draw(0, 1, 2, 4))


@pytest.mark.slow
def test_attention_equals_flax():
  x = draw(0, 2, 5, 12)
  module = Attention(3)
  params = noisy(init(module, x))
  theirs = nn.MultiHeadDotProductAttention(3)
  np.testing.assert_allclose(module.apply({"params": params}, x), theirs.apply({"params": params}, x), atol=1e-5)


@pytest.mark.slow
def test_attention_to_a_context_with_shared_heads():
  module = Attention(4, head_dim=6, kv_heads=2)
  x, context = draw(0, 2, 5, 12), draw(1, 2, 7, 10)
  params = init(module, x, context)
  assert params["query"]["kernel"].shape == (12, 4, 6)
  assert params["key"]["kernel"].shape == (10, 2, 6)
  assert module.apply({"params": params}, x, context).shape == (2, 5, 12)


def test_attention_heads_must_divide_the_width():
  with pytest.raises(ValueError, match="heads = 5 does not divide width = 12"):
    Attention(5).init(jax.random.key(0), draw(0, 2, 5, 12))


@pytest.mark.slow
def test_patches_equal_a_convolution():
  module = PatchEmbed(4, 6, use_bias=True)
  image = draw(0, 2, 8, 12, 3)
  params = noisy(init(module, image))
  conv = nn.Conv(6, (4, 4), (4, 4), "VALID").apply({"params": params}, image)
  np.testing.assert_allclose(module.apply({"params": params}, image), conv.reshape(2, 6, 6), atol=1e-5)


def test_patches_must_divide_the_image():
  with pytest.raises(ValueError, match="patches of 4 x 4 do not divide an image of 8 x 10 pixels"):
    PatchEmbed(4, 6).init(jax.random.key(0), draw(0, 1, 8, 10, 3))


@pytest.mark.slow
def test_patch_dropout_keeps_the_class_token_and_the_order():
  x = jnp.broadcast_to(jnp.arange(17.0)[None, :, None], (64, 17, 2))
  kept = np.asarray(patch_dropout(jax.random.key(0), x, 0.5, keep=1))[..., 0]
  assert kept.shape == (64, 9)
  assert (kept[:, 0] == 0).all()
  assert (np.diff(kept, axis=1) > 0).all()
  share = np.bincount(kept.astype(int).ravel(), minlength=17)[1:] / 64
  assert share.min() > 0.2
  assert share.max() < 0.8


def test_patch_dropout_leaves_one():
  assert patch_dropout(jax.random.key(0), draw(0, 2, 5, 3), 0.99, keep=1).shape == (2, 2, 3)


@pytest.mark.slow
def test_tokens_look_up_rows():
  module = TokenEmbed(11, 4)
  tokens = jnp.array([[0, 10, 3]])
  params = init(module, tokens)
  assert (module.apply({"params": params}, tokens)[0] == params["embedding"][tokens[0]]).all()


BLOCK = Block(heads=2, mlp=16, activation="quick_gelu")


def stack(**options):
  return Stack(BLOCK, 3, **options)


@pytest.fixture(scope="module")
def stacked():
  x = draw(0, 2, 5, 8)
  return x, noisy(init(stack(), x))


@pytest.mark.slow
def test_stack_equals_blocks_in_a_row(stacked):
  x, params = stacked
  want = x
  for i in range(3):
    want = BLOCK.apply({"params": jax.tree.map(lambda p, i=i: p[i], params)}, want, causal=True)
  np.testing.assert_allclose(stack().apply({"params": params}, x, causal=True), want, atol=1e-5)


def test_stack_names_its_layer_axis():
  boxed = stack().init(jax.random.key(0), draw(0, 2, 5, 8))["params"]
  kernel = boxed["mlp"]["up"]["kernel"]
  assert kernel.names == (Axis.LAYERS, Axis.EMBED, Axis.MLP)
  assert kernel.value.shape == (3, 8, 16)
  assert not np.allclose(kernel.value[0], kernel.value[1])


def gradients(module, params, x, **options):
  loss = lambda p, x: jnp.sin(module.apply({"params": p}, x, **options)).sum()
  return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x)


@pytest.mark.slow
@pytest.mark.parametrize(
  "options", [{"remat": "full"}, {"remat": "dots"}, {"remat": "dots_and_attention"}, {"unroll": 3}, {"unroll": 2}]
)
def test_remat_and_unroll_change_no_number(stacked, options):
  x, params = stacked
  want = gradients(stack(), params, x)
  got = gradients(stack(**options), params, x)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)


@pytest.mark.slow
@pytest.mark.parametrize("held", [1, 2, 3])
def test_held_layers_have_no_weight_gradient(stacked, held):
  x, params = stacked
  value, (grad, back) = gradients(stack(held=held), params, x)
  full_value, (full, full_back) = gradients(stack(), params, x)
  np.testing.assert_allclose(value, full_value, rtol=1e-5)
  np.testing.assert_allclose(back, full_back, atol=1e-5)
  for part, whole in zip(jax.tree.leaves(grad), jax.tree.leaves(full), strict=True):
    assert (part[:held] == 0).all()
    np.testing.assert_allclose(part[held:], whole[held:], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_held_layers_cost_no_weight_gradient():
  x = draw(0, 4, 32, 64)
  flops = {}
  for held in (0, 3):
    module = Stack(Block(heads=2, mlp=256), 3, held=held, unroll=3)
    params = init(module, x)
    loss = lambda p, x, m=module: jnp.sin(m.apply({"params": p}, x)).sum()
    flops[held] = jax.jit(jax.grad(loss, (0, 1))).lower(params, x).compile().cost_analysis()["flops"]
  assert flops[3] < 0.75 * flops[0]


@pytest.mark.parametrize("remat", ["none", "full"])
def test_dropout_differs_by_layer_and_key_and_is_off_without_train(stacked, remat):
  x, params = stacked
  module = Stack(Block(heads=2, mlp=16, activation="quick_gelu", dropout=0.5), 3, remat=remat)
  run = lambda seed, train=True: module.apply(
    {"params": params}, x, train=train, rngs={"dropout": jax.random.key(seed)}
  )
  np.testing.assert_array_equal(run(0), run(0))
  assert not np.allclose(run(0), run(1))
  np.testing.assert_array_equal(run(0, train=False), stack(remat=remat).apply({"params": params}, x))


def test_stack_names_wrong_options(stacked):
  x, params = stacked
  with pytest.raises(ValueError, match="unknown remat policy 'ful'; did you mean 'full'"):
    stack(remat="ful").apply({"params": params}, x)
  with pytest.raises(ValueError, match="held = 4 layers of a stack of 3; legal: 0 to 3"):
    stack(held=4).apply({"params": params}, x)
  with pytest.raises(ValueError, match="holds parameters of 3 layers; the model has 2"):
    Stack(BLOCK, 2).apply({"params": params}, x)


@pytest.mark.slow
def test_bfloat16_computes_from_float32_parameters(stacked):
  x, params = stacked
  module = Stack(Block(heads=2, mlp=16, activation="quick_gelu", dtype="bfloat16"), 3)
  assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(init(module, x)))
  got = module.apply({"params": params}, x.astype(jnp.bfloat16))
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(got.astype(jnp.float32), stack().apply({"params": params}, x), atol=0.15)
