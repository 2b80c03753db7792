import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.checkpoint import partial
from vljax.models import dual_encoder, fitting, flamingo, text, vit


@pytest.fixture(scope="module")
def model():
  return dual_encoder.build("test")


@pytest.fixture(scope="module")
def params(model):
  return nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), *model.inputs())["params"])


@pytest.mark.slow
def test_positions_follow_the_resolution(model, params):
  larger = dual_encoder.build("test", image={"image_size": 32})
  fitted = dual_encoder.adapt_params(params, larger)
  assert fitted["image"]["pos"].shape == (65, 32)
  np.testing.assert_array_equal(fitted["image"]["pos"][0], params["image"]["pos"][0])
  assert dual_encoder.adapt_params(params, model)["image"]["pos"] is params["image"]["pos"]


@pytest.mark.slow
def test_a_smooth_grid_survives_the_way_there_and_back():
  y, x = np.meshgrid(*[np.linspace(-1, 1, 7)] * 2, indexing="ij")
  grid = np.stack([y, x, x * y, np.ones_like(x)], -1).reshape(49, 4)
  table = jnp.asarray(np.concatenate([np.full((1, 4), 9.0), grid]), jnp.float32)
  there = fitting.resize_grid(table, 14, 1)
  back = fitting.resize_grid(there, 7, 1)
  np.testing.assert_allclose(back, table, atol=0.06)
  np.testing.assert_allclose(there[1:, 3], 1, atol=1e-5)


def test_an_oblong_grid_says_so():
  with pytest.raises(ValueError, match="13 positions are no square grid with 1 more in front"):
    fitting.resize_grid(jnp.zeros((13, 4)), 4, 1)


def test_texts_may_get_shorter_but_not_longer(params):
  shorter = text.build("test", length=5, activation="gelu")
  np.testing.assert_array_equal(text.adapt_params(params["text"], shorter)["pos"], params["text"]["pos"][:5])
  with pytest.raises(ValueError, match=r"pos \(8, 32\), the model has \(9, 32\)"):
    text.adapt_params(params["text"], text.build("test", length=9))


def test_other_shapes_name_the_parameter(params):
  with pytest.raises(
    ValueError, match=r"the parameters do not fit the model: .*patch/kernel \(4, 4, 3, 32\), the model has"
  ):
    dual_encoder.adapt_params(params, dual_encoder.build("test", image={"patch": 8, "image_size": 32}))
  with pytest.raises(ValueError, match=r"blocks/attention/key/bias \(2, 2, 16\), the model has \(3, 2, 16\)"):
    vit.adapt_params(params["image"], vit.build("test", depth=3))


def test_missing_and_unknown_names(model, params):
  less = {k: v for k, v in params.items() if k != "log_scale"}
  with pytest.raises(ValueError, match="the parameters lack 1 of the model's parameters: log_scale"):
    dual_encoder.adapt_params(less, model)
  more = {**params, "log_scal": jnp.zeros(())}
  with pytest.raises(ValueError, match="unknown parameter 'log_scal'; did you mean 'log_scale'"):
    fitting.check(more, model)


@pytest.mark.parity
@pytest.mark.parametrize("size", [4, 10, 16])
def test_resizing_equals_torch(size):
  torch = pytest.importorskip("torch")
  grid = np.random.default_rng(0).normal(size=(49, 6)).astype(np.float32)
  image = torch.from_numpy(grid.reshape(1, 7, 7, 6)).permute(0, 3, 1, 2)
  want = torch.nn.functional.interpolate(image, (size, size), mode="bicubic", antialias=True, align_corners=False)
  got = fitting.resize_grid(jnp.asarray(grid), size)
  np.testing.assert_allclose(got, want[0].permute(1, 2, 0).reshape(-1, 6).numpy(), atol=1e-4)


@pytest.mark.parametrize("extra", [0, 1])
def test_resize_leaf_takes_position_grids_with_and_without_a_class_token(extra):
  leaf = np.random.default_rng(0).normal(size=(16 + extra, 3)).astype(np.float32)
  for name in ("image/pos", "image/pool/pos", "vision/pos"):
    resized = fitting.resize_leaf(name, leaf, (64 + extra, 3))
    np.testing.assert_allclose(resized, fitting.resize_grid(leaf, 8, extra))
  assert fitting.resize_leaf("text/pos", leaf, (64 + extra, 3)) is leaf


@pytest.mark.slow
def test_a_flamingo_starts_from_a_tower_of_another_size(params):
  """`config.init` as in configs/flamingo/flamingo_smollm2.py: 4 by 4 places become 6 by 6, the class token stays."""
  target = fitting.abstract(flamingo.build("test", vision={"patch": 4, "image_size": 24}))
  entry = ("runs/clip", "image/((?!norm_post/).*)", "vision")
  made, _ = partial.initialize(target, [entry], lambda path: params, fitting.resize_leaf)
  np.testing.assert_allclose(made["vision"]["pos"], fitting.resize_grid(params["image"]["pos"], 6, 1), rtol=1e-6)
  np.testing.assert_array_equal(made["vision"]["patch"]["kernel"], params["image"]["patch"]["kernel"])
  with pytest.raises(ValueError, match="'vision/pos' has"):
    partial.initialize(target, [entry], lambda path: params)
