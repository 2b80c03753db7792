import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from vljax import config, convert, experiment, hub, recipes
from vljax.checkpoint import load_params
from vljax.data import tokenizers
from vljax.objectives.contrastive import softmax_contrastive
from vljax.train import writers
from vljax.train.step import due_at


@pytest.fixture(scope="module")
def raw(root):
  return config.load(f"{root}/configs/contrastive/imagebind_emoji.py:smoke", ())


@pytest.fixture(scope="module")
def parsed(raw):
  return recipes.parse(raw)


@pytest.fixture(scope="module")
def recipe(parsed):
  return recipes.build(parsed)


@pytest.fixture(scope="module")
def params(recipe):
  return jax.jit(lambda rng: meta.unbox(recipe.init(rng, {})[0]))(jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  return {
    "image": jnp.asarray(rng.integers(0, 255, (4, 16, 16, 3)), jnp.uint8),
    "depth": jnp.asarray(rng.random((4, 8, 8, 1)), jnp.float32),
  }


@pytest.fixture(scope="module")
def workdir(raw, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("bound") / "run"
  assert experiment.train(raw, workdir)
  return workdir


def test_each_modality_is_a_phase_that_trains_its_encoder_alone(recipe):
  assert [(p.name, p.streams, p.trains) for p in recipe.phases] == [
    ("base", ("pairs",), "base/.*"),
    ("depth", ("depth",), "encoders_depth/.*"),
  ]
  assert [recipe.due(step) for step in range(3)] == [(("base", "pairs"),), (("depth", "depth"),), (("base", "pairs"),)]
  assert set(recipe.predict) == {"encode_image", "encode_text", "scale", "encode_depth"}


@pytest.mark.slow
def test_the_loss_is_that_of_the_frozen_pictures(recipe, params, batch):
  phase = recipe.phase("depth")
  z, _ = phase.embed(params, {}, batch, jax.random.key(0))
  terms, metrics = phase.join(params, z)
  image, depth = (
    recipe.predict["encode_image"](params, batch["image"]),
    recipe.predict["encode_depth"](params, batch["depth"]),
  )
  expected = softmax_contrastive(image, depth, 1 / 0.07)[0]
  np.testing.assert_allclose(terms["loss"], expected, rtol=1e-4)
  assert float(metrics["scale"]) == pytest.approx(1 / 0.07, rel=1e-5)

  def loss(params):
    return phase.join(params, phase.embed(params, {}, batch, jax.random.key(0))[0])[0]["loss"]

  grads = jax.jit(jax.grad(loss))(params)
  size = lambda tree: sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(tree))
  assert size(grads["base"]) == 0
  assert size(grads["encoders_depth"]["tower"]) > 0
  assert size(grads["encoders_depth"]["log_scale"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
  ("part", "overrides"), [(0, {"dropout": 0.9}), (0, {"patch_dropout": 0.5}), (1, {"dropout": 0.9})]
)
def test_only_a_base_in_training_drops(parsed, params, batch, part, overrides):
  """As in CLIP: the base's own phase draws by its key, the pictures that a modality meets are those of evaluation."""
  which = ("image", "text")[part]
  recipe = recipes.build(dataclasses.replace(parsed, **{which: {**getattr(parsed, which), **overrides}}))
  batch = batch | {"tokens": jnp.ones((4, 16), jnp.int32)}
  embed = lambda phase, key: recipe.phase(phase).embed(params, {}, batch, jax.random.key(key))[0]
  a, b, again = (embed("base", key) for key in (0, 1, 0))
  assert np.abs(a[part] - b[part]).max() > 1e-3
  np.testing.assert_array_equal(a[1 - part], b[1 - part])
  np.testing.assert_array_equal(a[part], again[part])
  image = recipe.predict["encode_image"](params, batch["image"])
  for key in (0, 1):
    np.testing.assert_allclose(embed("depth", key)[0], image, atol=1e-5)


@pytest.mark.slow
def test_training_hides_bands_and_nothing_else(parsed, batch):
  modality = dataclasses.replace(parsed.modalities["depth"], frequency_mask=4, mean=0.25)
  recipe = recipes.build(dataclasses.replace(parsed, modalities={"depth": modality}))
  hidden = recipe.prepare(batch, jax.random.key(3))
  changed = np.asarray(hidden["depth"] != batch["depth"])
  assert changed.any()
  assert (np.asarray(hidden["depth"])[changed] == 0.25).all()
  assert (changed == changed[:, :, :1]).all(), "whole rows"
  np.testing.assert_array_equal(hidden["image"], batch["image"])
  recipe.prepare({"image": batch["image"]}, jax.random.key(0))


@pytest.mark.slow
def test_boxes_are_erased_and_pictures_augmented(parsed, batch):
  modality = dataclasses.replace(parsed.modalities["depth"], erase=1.0, mean=0.25, augment=(("flip_lr", 1.0),))
  recipe = recipes.build(dataclasses.replace(parsed, modalities={"depth": modality}))
  found = recipe.prepare(batch, jax.random.key(3))
  changed = np.asarray(found["depth"] != batch["depth"])
  assert changed.any((1, 2, 3)).all()
  assert (np.asarray(found["depth"])[changed] == 0.25).all()
  np.testing.assert_allclose(found["image_of_depth"], batch["image"][:, :, ::-1], atol=1e-3)
  with pytest.raises(ValueError, match="streams of depth must give the fields image and depth; there is no 'image'"):
    recipe.prepare({"depth": batch["depth"]}, jax.random.key(3))


@pytest.mark.slow
def test_modalities_of_one_stream_augment_their_own_pictures(parsed, params, batch):
  """Depth and heat mirror the same pictures, each its own copy, and meet those."""
  depth = dataclasses.replace(parsed.modalities["depth"], augment=(("flip_lr", 1.0),), erase=0.0)
  both = {"depth": depth, "heat": dataclasses.replace(depth, field="heat")}
  recipe = recipes.build(dataclasses.replace(parsed, modalities=both))
  stream = batch | {"heat": batch["depth"]}
  found = recipe.prepare(stream, jax.random.key(0))
  np.testing.assert_array_equal(found["image"], batch["image"])
  for name in both:
    np.testing.assert_allclose(found[f"image_of_{name}"], batch["image"][:, :, ::-1], atol=1e-3)
  (image, _), _ = recipe.phase("depth").embed(params, {}, found, jax.random.key(1))
  wanted = recipe.predict["encode_image"](params, batch["image"][:, :, ::-1])
  np.testing.assert_allclose(image, wanted, atol=1e-5)


def test_what_cannot_be_hidden_is_refused(parsed):
  modality = dataclasses.replace(parsed.modalities["depth"], erase=0.5)
  recipe = recipes.build(dataclasses.replace(parsed, modalities={"depth": modality}))
  with pytest.raises(
    ValueError, match=r"config\.modalities\.depth\.erase = 0\.5 for inputs of 2 axes; legal: 0, or \[h w"
  ):
    recipe.prepare({"image": jnp.zeros((2, 4, 4, 3)), "depth": jnp.zeros((2, 50, 6))}, jax.random.key(0))
  clips = jnp.ones((2, 3, 8, 8, 1))
  found = recipe.prepare({"image": jnp.zeros((2, 4, 4, 3)), "depth": clips}, jax.random.key(0))["depth"]
  assert 0 < (found != clips).any((2, 3, 4)).sum() < 6


@pytest.mark.parametrize("tower", ["modified_resnet", "resnet", "efficientnet"])
def test_a_base_with_batch_statistics_is_refused(parsed, tower):
  with pytest.raises(ValueError, match=f"config.image.tower = '{tower}' has batch statistics.*; legal: .*'vit' or"):
    recipes.build(dataclasses.replace(parsed, image={"tower": tower, "variant": "test"}))


def test_each_step_has_a_phase(parsed):
  def build(combine="accumulate", base=(), stream=1, **every):
    modalities = {name: dataclasses.replace(parsed.modalities["depth"], every=n) for name, n in every.items()}
    streams = {**parsed.streams, "depth": dataclasses.replace(parsed.streams["depth"], every=stream)}
    init = (("elsewhere", ".*", "base"),)
    changes = dict(combine=combine, base_streams=base, modalities=modalities, streams=streams, init=init)
    return recipes.build(dataclasses.replace(parsed, **changes))

  due = lambda recipe: [[name for name, _ in due_at(recipe, step)] for step in range(2)]
  assert due(build(depth=2, heat=1)) == [["depth", "heat"], ["heat"]]
  assert due(build(base=("pairs",), depth=2)) == [["base", "depth"], ["base"]]
  assert due(build("round_robin", depth=1, heat=1)) == [["depth"], ["heat"]]
  with pytest.raises(ValueError, match=r"step 1: config\.modalities\.depth\.every = 2, .*heat\.every = 3; legal: 1 "):
    build(depth=2, heat=3)
  with pytest.raises(ValueError, match=r"depth\.every = 1; legal: 1 .*, and config\.streams\.NAME\.every = 1"):
    build(stream=2, depth=1)
  with pytest.raises(ValueError, match=r"config\.modalities\.heat\.every = 0; legal: 1 or more"):
    build(depth=1, heat=0)
  with pytest.raises(ValueError, match=r"config\.modalities\.depth\.every = 2; legal: 1, since combine = 'round_rob"):
    build("round_robin", ("pairs",), depth=2)


def test_what_cannot_be_is_refused(parsed, recipe, params, batch):
  replace = lambda **changes: dataclasses.replace(parsed, **changes)
  with pytest.raises(ValueError, match=r"the base would stay random: set config\.init"):
    recipes.build(replace(base_streams=()))
  with pytest.raises(ValueError, match="a modality is named 'image'"):
    replace(modalities={"image": parsed.modalities["depth"]})
  with pytest.raises(ValueError, match="streams of depth must give the fields image and depth; there is no 'depth'"):
    recipe.phase("depth").embed(params, {}, {"image": batch["image"]}, jax.random.key(0))
  with pytest.raises(ValueError, match="temperature = 0"):
    dataclasses.replace(parsed.modalities["depth"], temperature=0)
  with pytest.raises(ValueError, match=r"erase = 2; legal: 0 to 1"):
    dataclasses.replace(parsed.modalities["depth"], erase=2)


@pytest.mark.slow
def test_a_run_takes_turns_and_evaluates_what_never_met(workdir):
  rows = writers.read(workdir)
  assert "base/pairs/loss" in rows[0]
  assert "depth/depth/loss" in rows[1]
  assert 0 <= rows[-1]["depth_text/R@5/low"] <= rows[-1]["depth_text/R@5"] <= 1


@pytest.mark.slow
def test_classes_are_found_by_prompts(raw, workdir):
  """Depth is turned into its class's own text, but for every fifth: those are found to be wrong."""
  asked = raw.copy_and_resolve_references()
  found = asked.evals.depth_text
  asked.evals = {"classes": dict(kind="zeroshot", source=found.source, transforms=found.transforms, query="depth")}
  tokenizer = tokenizers.load(workdir / "tokenizer")
  evaluation = recipes.build(recipes.parse(asked), tokenizer).evals["classes"]
  source, rows = evaluation.open()
  names = tokenizer([f"a photo of a {name}." for name in source.classes])
  right = [source.row(i)["label"] for i in range(len(source))]
  told = {
    row["depth"].tobytes(): (c + (i % 5 == 0)) % len(names) for i, (row, c) in enumerate(zip(rows, right, strict=True))
  }
  depth = lambda params, x: np.eye(len(names))[[told[one.tobytes()] for one in x]]
  text = lambda params, tokens: np.eye(len(names))[[np.all(names == t, axis=1).argmax() for t in tokens]]
  scores = evaluation({"encode_depth": depth, "encode_text": text}, {})
  assert scores["top1"] == np.mean([i % 5 > 0 for i in range(len(rows))])
  asked.evals.classes.answer = "image"
  with pytest.raises(ValueError, match="config.evals.classes.answer = 'image'; legal with kind = 'zeroshot': 'text'"):
    recipes.build(recipes.parse(asked), tokenizer)


@pytest.mark.slow
def test_hub_opens_it_and_encodes_every_modality(workdir, batch):
  bundle = hub.load(workdir)
  assert set(bundle.modalities) == {"image", "text", "depth"}
  found = bundle.encode("depth", np.asarray(batch["depth"]))
  assert found.shape == (4, 16)
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
  assert bundle.encode_text("a red circle").shape == (1, 16)
  assert bundle.zero_shot(np.asarray(batch["image"]), ["circle", "square"]).shape == (4, 2)
  with pytest.raises(ValueError, match="unknown modality 'deph'.*depth"):
    bundle.encode("deph", np.asarray(batch["depth"]))


@pytest.mark.slow
def test_no_other_format_holds_it(workdir, tmp_path):
  with pytest.raises(ValueError, match="encodes depth besides pictures and texts"):
    convert.convert(workdir, tmp_path / "out", "hf")


@pytest.mark.slow
def test_a_frozen_base_is_read_and_stays(raw, workdir, tmp_path):
  again = raw.copy_and_resolve_references().unlock()
  again.base_streams = ()
  del again.streams["pairs"]
  again.init = [(str(workdir), "base/(.*)", "base")]
  again.evals = {}
  assert experiment.train(again, tmp_path / "frozen")
  before, after = load_params(workdir)[0], load_params(tmp_path / "frozen")[0]
  for old, new in zip(jax.tree.leaves(before["base"]), jax.tree.leaves(after["base"]), strict=True):
    np.testing.assert_array_equal(np.asarray(old), np.asarray(new))


def test_the_small_run_binds_what_it_is_asked_for(root):
  load = lambda arg: config.load(f"{root}/configs/contrastive/imagebind_emoji.py:{arg}", ())
  assert set(load("").modalities) == {"audio", "german"}
  assert set(load("speech=false,video=DIR").modalities) == {"german", "video"}
  with pytest.raises(ValueError, match="speech, also and video are all off"):
    load("speech=false,also=")
  with pytest.raises(ValueError, match="unknown also 'German'; legal: german"):
    load("also=German")
