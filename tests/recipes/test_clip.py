import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import recipes, tree
from vljax.data import tokenizers
from vljax.recipes import clip
from vljax.train.gradients import gradients


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  tokens = rng.integers(4, 300, (8, 16)).astype(np.int32)
  tokens[:, 7] = 1
  return {"image": jnp.asarray(rng.integers(0, 255, (8, 16, 16, 3)), jnp.uint8), "tokens": jnp.asarray(tokens)}


@pytest.fixture(scope="module")
def built(smoke, batch):
  from flax.core import meta

  parsed = recipes.parse(smoke())
  recipe = recipes.build(parsed)
  params, extras = meta.unbox(jax.jit(recipe.init)(jax.random.key(0), batch))
  return parsed, recipe, params, extras


def step(recipe, params, extras, batch, micro):
  cut, phase = tree.split(params, ".*"), recipe.phases[0]
  run = jax.jit(lambda p: gradients(phase, cut, p, cut.held(p), extras, batch, jax.random.key(1), micro))
  return run(params)


def test_micro_batches_give_the_gradient_of_the_whole_batch(built, batch):
  _, recipe, params, extras = built
  whole, parts = step(recipe, params, extras, batch, 1), step(recipe, params, extras, batch, 4)
  chex.assert_trees_all_close(whole.grads, parts.grads, rtol=1e-5, atol=2e-5)  # of sizes up to 4, in float32
  np.testing.assert_allclose(whole.metrics["loss"], parts.metrics["loss"], rtol=1e-6)


def test_the_loss_of_an_untrained_model_is_near_that_of_chance(built, batch):
  _, recipe, params, extras = built
  metrics = step(recipe, params, extras, batch, 1).metrics
  assert set(metrics) == {"loss", "accuracy", "scale"}
  assert np.log(8) / 2 < float(metrics["loss"]) < 3 * np.log(8)
  assert float(metrics["scale"]) == pytest.approx(1 / 0.07, rel=1e-5)


def test_normalization_is_that_of_the_config(built):
  parsed, recipe, _, _ = built
  towers = clip.Towers(recipe.model, clip.Preprocess(normalize=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))))
  image = np.full((1, 2, 2, 3), 51, np.uint8)
  expected = (0.2 - np.array([0.1, 0.2, 0.3])) / np.array([0.4, 0.5, 0.6])
  np.testing.assert_allclose(towers.normalize(image)[0, 0, 0], expected, atol=1e-6)
  assert parsed.preprocess.constants == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_an_untrained_bottom_is_held(smoke):
  parsed = recipes.parse(smoke(r"trains=image/blocks/1/.*|image/norm_post/.*|text/.*|.*_head/.*|log_scale"))
  model = clip.build_model(parsed)
  assert (model.image.held, model.text.held) == (1, 0)


def test_predict_gives_unit_vectors(built, batch):
  _, recipe, params, _ = built
  for z in (
    recipe.predict["encode_image"](params, batch["image"]),
    recipe.predict["encode_text"](params, batch["tokens"]),
  ):
    np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("text.vocab=64", r"the tokenizer has 300 ids; config.text.vocab = 64 holds fewer"),
    ("text.length=8", r"config.tokenizer.length = 16 is more than config.text.length = 8"),
    ("text.eos_id=2", r"tokenizer sentencepiece ends texts with id 1.*config.text pools by 'eos' with eos_id = 2"),
    ("text.pool=argmax", r"to be pooled by 'eos'; config.text pools by 'argmax'"),
  ],
)
def test_a_tokenizer_that_does_not_fit_is_refused(smoke, smoke_workdir, override, message):
  with pytest.raises(ValueError, match=message):
    recipes.build(recipes.parse(smoke(override)), tokenizers.load(smoke_workdir / "tokenizer"))


def test_meaning_holds_what_shapes_do_not_tell(smoke, smoke_workdir):
  parsed = recipes.parse(smoke("image.activation=quick_gelu"))
  found = recipes.meaning(parsed, tokenizers.load(smoke_workdir / "tokenizer"))
  assert found["image"]["activation"] == "quick_gelu"
  assert found["text"] == {"activation": "gelu", "pool": "eos", "eos_id": 1}
  assert found["preprocess"]["mean"] == (0.5, 0.5, 0.5)
  assert len(found["tokenizer"]["sha256"]) == 64


def test_unknown_recipe():
  with pytest.raises(ValueError, match="unknown recipe 'clop'; did you mean 'clip'"):
    recipes.parse({"recipe": "clop"})
