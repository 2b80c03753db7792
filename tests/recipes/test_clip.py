import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import config, recipes, tree
from vljax.data import tokenizers
from vljax.models import dual_encoder
from vljax.objectives.contrastive import softmax_contrastive
from vljax.recipes import clip
from vljax.train import gradients
from vljax.train.recipe import Paired


@pytest.fixture(scope="module")
def parsed(smoke):
  return recipes.parse(smoke())


@pytest.fixture(scope="module")
def recipe(parsed):
  return recipes.build(parsed)


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  return {
    "image": jnp.asarray(rng.integers(0, 255, (4, 16, 16, 3)), jnp.uint8),
    "tokens": jnp.asarray(rng.integers(2, 300, (4, 16)), jnp.int32).at[:, -1].set(1),
  }


@pytest.fixture(scope="module")
def params(recipe, batch):
  return jax.tree.map(lambda x: x, jax.jit(lambda rng: unboxed(recipe.init(rng, batch)[0]))(jax.random.key(0)))


def unboxed(tree):
  from flax.core import meta

  return meta.unbox(tree)


def test_one_paired_phase_that_reads_all_streams(parsed, recipe):
  (phase,) = recipe.phases
  assert isinstance(phase, Paired)
  assert (phase.name, phase.streams, phase.trains) == ("clip", ("train",), ".*")
  two = {"train": parsed.streams["train"], "more": parsed.streams["train"]}
  assert recipes.build(dataclasses.replace(parsed, streams=two)).phases[0].streams == ("train", "more")


@pytest.mark.slow
def test_the_loss_is_that_of_the_towers_features(recipe, params, batch):
  (phase,) = recipe.phases
  z, extras = phase.embed(params, {}, batch, jax.random.key(1))
  terms, metrics = phase.join(params, z)
  image = recipe.predict["encode_image"](params, batch["image"])
  text = recipe.predict["encode_text"](params, batch["tokens"])
  np.testing.assert_allclose(z[0], image, atol=1e-5)
  np.testing.assert_allclose(z[1], text, atol=1e-5)
  scale = recipe.predict["scale"](params)
  assert float(scale) == pytest.approx(1 / 0.07, rel=1e-5)
  np.testing.assert_allclose(terms["loss"], softmax_contrastive(image, text, scale)[0], rtol=1e-5)
  assert float(metrics["scale"]) == pytest.approx(float(scale))
  assert extras == {}


@pytest.mark.slow
def test_label_smoothing_reaches_the_loss(parsed, params, batch):
  (phase,) = recipes.build(dataclasses.replace(parsed, label_smoothing=0.3)).phases
  z, _ = phase.embed(params, {}, batch, jax.random.key(1))
  expected = softmax_contrastive(*z, 1 / 0.07, label_smoothing=0.3)[0]
  np.testing.assert_allclose(phase.join(params, z)[0]["loss"], expected, rtol=1e-5)


def with_statistics(parsed, **options):
  image = dict(tower="modified_resnet", variant="test")
  return dataclasses.replace(parsed, image=image, joint=dict(image_projection="affine"), **options)


@pytest.fixture(scope="module")
def resnet_weights(parsed, batch):
  recipe = recipes.build(with_statistics(parsed))
  return jax.jit(lambda rng: unboxed(recipe.init(rng, batch)))(jax.random.key(0))


@pytest.mark.slow
def test_batch_statistics_are_extras_that_training_moves(parsed, batch, resnet_weights):
  params, extras = resnet_weights
  assert set(extras) == {"batch_stats"}
  recipe = recipes.build(with_statistics(parsed))
  embed = jax.jit(recipe.phases[0].embed)
  z, new = embed(params, extras, batch, jax.random.key(1))
  assert jax.tree.structure(new) == jax.tree.structure(extras)
  moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), extras, new)
  assert min(jax.tree.leaves(moved)) > 0
  seen = recipe.predict["encode_image"]({**params, **new}, batch["image"])
  assert seen.shape == z[0].shape
  assert not np.allclose(seen, z[0], atol=1e-3), "evaluation reads the running statistics, training the batch's"


@pytest.mark.slow
def test_a_locked_tower_keeps_its_statistics(parsed, batch, resnet_weights):
  params, extras = resnet_weights
  recipe = recipes.build(with_statistics(parsed, trains="text.*"))
  z, new = recipe.phases[0].embed(params, extras, batch, jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, new, extras)
  seen = recipe.predict["encode_image"]({**params, **extras}, batch["image"])
  np.testing.assert_allclose(z[0], seen, atol=1e-5)


def test_batch_statistics_are_refused_in_micro_batches(parsed, batch, resnet_weights):
  params, extras = resnet_weights
  phase, cut = recipes.build(with_statistics(parsed)).phases[0], tree.split(params, ".*")
  run = lambda params: (
    gradients.gradients(phase, cut, params, cut.held(params), extras, batch, jax.random.key(1), 2).grads
  )
  with pytest.raises(ValueError, match="phase 'clip': 'batch_stats/image/.*' is a statistic of the whole batch"):
    jax.eval_shape(run, params)


@pytest.mark.slow
def test_the_cached_pass_replays_the_draws_of_both_towers(smoke, params, batch):
  """Patches and units are dropped alike when the parts are embedded again: one graph over them has equal gradients."""
  options = "--config.text.dropout=0.3", "--config.image.patch_dropout=0.5"
  (phase,) = recipes.build(recipes.parse(smoke(*options))).phases
  cut, key, micro = tree.split(params, ".*"), jax.random.key(1), 2

  @jax.jit
  def cached(params):
    return gradients.gradients(phase, cut, params, cut.held(params), {}, batch, key, micro).grads

  @jax.jit
  @jax.grad
  def one_graph(params):
    parts, keys = gradients.chunks(batch, micro), jax.random.split(key, micro)
    part = lambda i: jax.tree.map(lambda x: x[i], parts)
    z = [phase.embed(params, {}, part(i), keys[i])[0] for i in range(micro)]
    z = gradients.whole(jax.tree.map(lambda *x: jnp.stack(x), *z))
    return gradients.total(phase, phase.join(params, z)[0], phase.weights(batch))

  found, wanted = cached(params), one_graph(params)
  size = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(wanted))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * size), found, wanted)


def test_a_variant_names_both_towers(parsed):
  whole = dataclasses.replace(parsed, variant="test", image=dict(image_size=32), text={}, dim=None)
  assert clip.build_model(whole) == dual_encoder.build("test", image=dict(image_size=32))
  assert clip.build_model(dataclasses.replace(whole, dim=8)).dim == 8


def test_normalization_is_that_of_the_config(parsed):
  preprocess = clip.Preprocess(normalize=((0.1, 0.2, 0.3), (0.5, 0.25, 2.0)))
  towers = clip.Towers(dual_encoder.build("test"), preprocess)
  image = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
  expected = (image / 255 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 0.25, 2.0])
  np.testing.assert_allclose(towers.normalize(image), expected, atol=1e-5)
  np.testing.assert_allclose(towers.normalize(image.astype(np.float32)), expected, atol=1e-5)


def test_meaning_holds_what_changes_results_silently(parsed, smoke_workdir):
  tokenizer = tokenizers.load(smoke_workdir / "tokenizer")
  meaning = recipes.meaning(parsed, tokenizer)
  assert meaning["image"] == {"activation": "gelu", "pool": "cls", "size": 16}
  assert meaning["text"] == {"activation": "gelu", "pool": "eos", "eos_id": 1}
  assert meaning["preprocess"] == {
    "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic", "resize": "shortest",
  }  # fmt: skip
  assert meaning["tokenizer"]["sha256"] == tokenizer.sha256
  assert meaning["tokenizer"]["length"] == 16


@pytest.mark.parametrize(
  ("override", "key"),
  [
    ("image.activation=quick_gelu", "image.activation"),
    ("text.activation=relu", "text.activation"),
    ("image.pool=mean", "image.pool"),
    ("image.image_size=32", "image.size"),
    ("preprocess.interpolation=bilinear", "preprocess.interpolation"),
    ("preprocess.resize=squash", "preprocess.resize"),
  ],
)
def test_each_of_these_changes_the_meaning(smoke, parsed, override, key):
  other = recipes.parse(smoke(f"--config.{override}"))
  assert list(config.diff(recipes.meaning(parsed), recipes.meaning(other))) == [key]


def test_evaluations_need_a_tokenizer(parsed, recipe, smoke_workdir):
  assert recipe.evals == {}
  tokenizer = tokenizers.load(smoke_workdir / "tokenizer")
  assert set(recipes.build(parsed, tokenizer).evals) == {"retrieval", "groups"}


@pytest.mark.slow
def test_evaluations_by_labelled_pictures(smoke, recipe, params, smoke_workdir):
  """The same pictures on both sides, of which each is among its own neighbors."""
  evals = {kind: dict(kind=kind, source="synthetic:pairs?n=60&size=16", batch=8) for kind in ("knn", "probe")}
  raw = smoke()
  raw.evals = {kind: dict(found, labelled=found["source"], first=True) for kind, found in evals.items()}
  tokenizer = tokenizers.load(smoke_workdir / "tokenizer")
  made = recipes.build(recipes.parse(raw), tokenizer).evals
  assert made["knn"].due(0)
  found = made["knn"](recipe.predict, params)
  assert found["top1"] > 2 * found["top1/chance"]
  see = lambda: clip.gallery(evals["probe"]["source"], clip.Preprocess(normalize="inception"), 16, tokenizer, 8)
  assert made["probe"](recipe.predict, params) == see().probe(see(), recipe.predict, params)
  raw.evals = evals
  with pytest.raises(ValueError, match="an evaluation of kind 'knn' learns from the source `labelled`"):
    recipes.build(recipes.parse(raw), tokenizer)


def test_a_tokenizer_pads_with_what_the_tower_leaves_unseen():
  tokenizer = tokenizers.train_sentencepiece([f"a {c} thing" for c in "abcdefghijklm"], 20, byte_fallback=False)
  text = dict(tower="bert", variant="test", vocab=20, length=64)
  build = lambda **more: dual_encoder.build_from(image=dict(variant="test"), text={**text, **more}, dim=8)
  clip.check_tokenizer(build(), tokenizer)
  padded = dataclasses.replace(tokenizer, pad_id=1)
  with pytest.raises(ValueError, match="the tokenizer pads with id 1; config.text.pad_id = 0 is unseen"):
    clip.check_tokenizer(build(), padded)
  clip.check_tokenizer(build(pad_id=1), padded)
