import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import parallel, tree
from vljax.models import dual_encoder, fitting, text, vit
from vljax.objectives.contrastive import softmax_contrastive


def noisy(model, seed=0):
  params = nn.meta.unbox(jax.jit(model.init)(jax.random.key(seed), *model.inputs())["params"])
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
  return structure.unflatten([p + 0.05 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)])


def batch(model, n=8, seed=0):
  rng = np.random.default_rng(seed)
  size = model.image.image_size
  tokens = rng.integers(1, model.text.vocab - 1, (n, model.text.length)).astype(np.int32)
  tokens[np.arange(n), rng.integers(2, model.text.length, n)] = model.text.vocab - 1
  return rng.normal(size=(n, size, size, 3)).astype(np.float32), tokens


@pytest.fixture(scope="module")
def model():
  return dual_encoder.build("test")


@pytest.fixture(scope="module")
def params(model):
  return noisy(model)


def loss_of(model):
  def loss(params, image, tokens):
    z = model.apply({"params": params}, image, tokens)
    return softmax_contrastive(*z, model.apply({"params": params}, method="scale"))[0] / len(image)

  return loss


@pytest.mark.slow
def test_both_encoders_give_unit_vectors(model, params):
  image, tokens = batch(model)
  z = model.apply({"params": params}, image, tokens)
  for x in z:
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(model.apply({"params": params}, image, method="encode_image"), z[0], atol=1e-6)
  np.testing.assert_allclose(model.apply({"params": params}, tokens, method="encode_text"), z[1], atol=1e-6)


@pytest.mark.slow
def test_what_follows_the_end_of_a_text_changes_nothing(model, params):
  _, tokens = batch(model)
  end = tokens.argmax(1)
  other = np.where(np.arange(tokens.shape[1]) > end[:, None], 5, tokens)
  encode = lambda t: model.apply({"params": params}, t, method="encode_text")
  np.testing.assert_allclose(encode(tokens), encode(other), atol=1e-6)
  short = other[:, : end.max() + 1]
  np.testing.assert_allclose(encode(short), encode(tokens), atol=1e-6)


def test_scale_is_limited_and_comes_back():
  model = dual_encoder.build("test")
  scale = lambda log: model.apply({"params": {"log_scale": jnp.asarray(log)}}, method="scale")
  assert scale(np.log(1 / 0.07)) == pytest.approx(1 / 0.07)
  assert scale(5.0) == pytest.approx(100)
  up, down = jax.grad(lambda x: -scale(x)), jax.grad(scale)
  assert up(5.0) == 0
  assert down(5.0) == pytest.approx(100)
  assert up(4.0) == pytest.approx(-np.exp(4))


@pytest.mark.slow
def test_bfloat16_features_are_near_and_float32(model, params):
  image, tokens = batch(model)
  half = dual_encoder.build("test", dtype="bfloat16")
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(fitting.abstract(half)))
  for a, b in zip(
    half.apply({"params": params}, image, tokens), model.apply({"params": params}, image, tokens), strict=True
  ):
    assert a.dtype == jnp.float32
    np.testing.assert_allclose(a, b, atol=0.05)


@pytest.mark.slow
def test_starting_values_follow_clip():
  model = dual_encoder.build("small", text={"vocab": 512})
  params = nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), *model.inputs())["params"])
  for tower, width, depth in (("image", 192, 4), ("text", 128, 4)):
    blocks = params[tower]["blocks"]
    deviations = {
      "attention/query/kernel": width**-0.5,
      "attention/value/kernel": width**-0.5,
      "attention/out/kernel": width**-0.5 * (2 * depth) ** -0.5,
      "mlp/up/kernel": (2 * width) ** -0.5,
      "mlp/down/kernel": width**-0.5 * (2 * depth) ** -0.5,
    }
    for name, std in deviations.items():
      assert np.std(tree.flatten(blocks)[name]) == pytest.approx(std, rel=0.03)
    assert np.std(params[f"{tower}_head"]["kernel"]) == pytest.approx(width**-0.5, rel=0.03)
  assert np.std(params["image"]["pos"]) == pytest.approx(192**-0.5, rel=0.03)
  assert np.std(params["text"]["pos"]) == pytest.approx(0.01, rel=0.05)
  assert np.std(params["text"]["token"]["embedding"]) == pytest.approx(0.02, rel=0.03)
  assert np.std(params["image"]["patch"]["kernel"]) == pytest.approx((3 * 48) ** -0.5, rel=0.05)
  assert params["log_scale"] == pytest.approx(2.6593, abs=1e-4)


@pytest.mark.slow
def test_patch_dropout_only_in_training(model, params):
  image, _ = batch(model)
  dropping = vit.build("test", patch_dropout=0.5, activation="quick_gelu")
  run = lambda seed, train: dropping.apply(
    {"params": params["image"]}, image, train=train, rngs={"dropout": jax.random.key(seed)}, method="tokens"
  )
  assert run(0, True).shape == (8, 9, 32)
  assert run(0, False).shape == (8, 17, 32)
  assert not np.allclose(run(0, True)[:, 0], run(1, True)[:, 0])


@pytest.mark.slow
def test_mean_pooling_has_no_class_token():
  tower = vit.build("test", pool="mean", norm_pre=False)
  params = noisy(tower)
  assert "cls" not in params
  assert "norm_pre" not in params
  assert params["pos"].shape == (16, 32)
  image = batch(dual_encoder.build("test"))[0]
  assert tower.apply({"params": params}, image).shape == (8, 32)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["mean", "map"])
def test_masking_without_a_class_token(pool):
  """FLIP (arXiv 2212.00794): a share of the patches is not seen in training, each of the others as it is."""
  tower = vit.build("test", pool=pool, norm_pre=False, patch_dropout=0.5)
  params = noisy(tower)
  image = batch(dual_encoder.build("test"))[0]
  rngs = {"dropout": jax.random.key(0)}
  assert tower.apply({"params": params}, image, train=True, rngs=rngs, method="tokens").shape == (8, 8, 32)
  assert tower.apply({"params": params}, image, train=True, rngs=rngs).shape == (8, 32)
  assert tower.apply({"params": params}, image, method="tokens").shape == (8, 16, 32)


def test_text_pooling(params):
  tokens = np.array([[1, 9, 3, 9, 2], [1, 2, 9, 0, 0]])
  at = lambda **o: text.build("test", **o).bind({"params": params["text"]}).pooled(jnp.asarray(tokens)).tolist()
  assert at(pool="argmax") == [1, 2]
  assert at(pool="eos", eos_id=9) == [1, 2]
  assert at(pool="eos", eos_id=2) == [4, 1]
  assert at(pool="last") == [4, 4]
  with pytest.raises(ValueError, match="needs eos_id; found None"):
    at(pool="eos")
  with pytest.raises(ValueError, match="unknown pool of TextTransformer 'eot'; did you mean 'eos'"):
    text.build("test", pool="eot").init(jax.random.key(0), tokens)


def test_inputs_that_do_not_fit(model, params):
  with pytest.raises(ValueError, match="takes images of 16 x 16 pixels; found 16 x 24"):
    model.apply({"params": params}, jnp.zeros((1, 16, 24, 3)), method="encode_image")
  with pytest.raises(ValueError, match="texts of 9 tokens; the model has positions for 8"):
    model.apply({"params": params}, jnp.zeros((1, 9), jnp.int32), method="encode_text")


@pytest.mark.slow
def test_a_tower_without_causality_sees_ahead(params):
  tokens = np.ones((1, 8), np.int32)
  tokens[0, 2] = 63
  later = tokens.copy()
  later[0, 5] = 7
  for causal in (True, False):
    tower = text.build("test", causal=causal)
    same = np.allclose(*(tower.apply({"params": params["text"]}, t) for t in (tokens, later)), atol=1e-6)
    assert same == causal


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 1, 1), (4, 2, 1), (2, 2, 2)])
def test_any_mesh_gives_the_same_loss_and_gradients(model, params, shape):
  image, tokens = batch(model)
  step = jax.jit(jax.value_and_grad(loss_of(model)))
  want = step(params, image, tokens)
  mesh = jax.make_mesh(shape, ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
  boxes = fitting.abstract(model, boxed=True)
  spread = lambda p, names: jax.device_put(p, parallel.sharding(mesh, parallel.DEFAULT, names, p.shape))
  with parallel.use(mesh):
    is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)
    sharded = jax.tree.map(lambda box, p: spread(p, box.names if is_box(box) else ()), boxes, params, is_leaf=is_box)
    got = jax.jit(jax.value_and_grad(loss_of(model)))(
      sharded, spread(image, ("batch", None, None, None)), spread(tokens, ("batch", None))
    )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)


@pytest.mark.slow
def test_init_is_the_same_on_a_mesh(model):
  mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
  want = jax.jit(model.init)(jax.random.key(0), *model.inputs())
  with parallel.use(mesh):
    got = jax.jit(lambda key: model.init(key, *model.inputs()))(jax.random.key(0))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *(nn.meta.unbox(x) for x in (got, want)))


def test_a_misspelt_logical_axis_raises(model, params):
  with pytest.raises(ValueError, match="unknown logical axis 'embd'; did you mean 'embed'"):
    parallel.constrain(jnp.zeros((2, 3)), "batch", "embd")
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  with pytest.raises(ValueError, match="unknown mesh axis 'fsdp'|unknown mesh axis 'tensor'"), parallel.use(mesh):
    model.apply({"params": params}, *batch(model))


def test_a_mesh_without_rules_raises(model, params):
  mesh = jax.make_mesh((8, 1, 1), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
  with pytest.raises(ValueError, match="enter both with parallel.use"), jax.set_mesh(mesh):
    model.apply({"params": params}, *batch(model))
