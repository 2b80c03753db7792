import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import config, experiment, recipes, tree
from vljax.checkpoint.load import load_params
from vljax.layers import batch_norm
from vljax.objectives import views
from vljax.recipes import simclr
from vljax.train import writers


@pytest.fixture(scope="module")
def parsed(root):
  return recipes.parse(config.load(f"{root}/configs/contrastive/simclr_cifar.py:smoke"))


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (8, 16, 16, 3), np.uint8)
  return {"image": jnp.asarray(image), "label": jnp.asarray(rng.integers(0, 3, 8))}


def start(parsed, batch):
  recipe = recipes.build(parsed)
  params, extras = jax.tree.map(
    lambda x: x.unbox() if hasattr(x, "unbox") else x,
    recipe.init(jax.random.key(0), batch),
    is_leaf=lambda x: hasattr(x, "unbox"),
  )
  return recipe, params, extras


@pytest.mark.slow
def test_views_differ_from_each_other_and_from_example_to_example(parsed, batch):
  recipe, _, _ = start(parsed, batch)
  same = {"image": jnp.tile(batch["image"][:1], (8, 1, 1, 1))}
  prepared = np.asarray(jax.jit(recipe.prepare)(same, jax.random.key(1))["image"])
  assert prepared.shape == (8, 2, 16, 16, 3)
  assert len({view.tobytes() for view in prepared.reshape(16, -1)}) == 16


@pytest.mark.slow
def test_one_branch_may_be_augmented_alone(parsed, batch):
  other = dataclasses.replace(parsed, augment=(("gaussian_noise", 0.5),), augment_other=())
  prepared = recipes.build(other).prepare(batch, jax.random.key(0))["image"]
  np.testing.assert_allclose(prepared[:, 1], batch["image"] / 255.0, atol=1e-6)
  assert np.abs(prepared[:, 0] - prepared[:, 1]).max() > 0.3


def test_views_may_begin_with_two_crops_of_the_host(parsed, batch):
  plain = dataclasses.replace(parsed, augment=(), augment_other=())
  other = jnp.flip(batch["image"], 1)
  prepared = recipes.build(plain).prepare({**batch, "image_other": other}, jax.random.key(0))
  assert prepared.keys() == {"image", "label"}
  np.testing.assert_allclose(prepared["image"], jnp.stack([batch["image"], other], 1) / 255.0, atol=1e-6)


def test_both_crops_of_the_host_are_kept(root):
  load = lambda *keep, further=(): recipes.parse(
    config.load(
      f"{root}/configs/contrastive/simclr_r50.py:smoke,crops=host",
      [f"streams.train.transforms=[('keep', 'image'), ('decode',), ('two_crops', 16), {('keep', *keep)}]", *further],
    )
  )
  load("image", "image_other")
  with pytest.raises(ValueError, match=r"config.streams.train.transforms: \('keep', 'image'\) drops 'image_other'"):
    load("image")
  with pytest.raises(ValueError, match="config.augment crops what two_crops of config.streams.train.transforms has"):
    load("image", "image_other", further=["augment=[('random_resized_crop', 16)]"])


@pytest.mark.slow
def test_the_loss_is_that_of_the_two_views_and_statistics_move(parsed, batch):
  recipe, params, extras = start(parsed, batch)
  prepared = recipe.prepare(batch, jax.random.key(1))
  z, new = recipe.phases[0].embed(params, extras, prepared, jax.random.key(2))
  terms, metrics = recipe.phases[0].join(params, z)
  want, _ = views.nt_xent(z["a"], z["b"], temperature=0.5)
  np.testing.assert_allclose(terms["loss"], want, rtol=1e-6)
  assert metrics.keys() == {"accuracy", "entropy"}
  before, after = tree.flatten(extras), tree.flatten(new)
  assert before.keys() == after.keys()
  assert any(not np.array_equal(before[n], after[n]) for n in before)


@pytest.mark.slow
def test_the_classifier_sends_no_gradient_to_the_backbone(parsed, batch):
  recipe, params, extras = start(dataclasses.replace(parsed, classes=3), batch)
  prepared = recipe.prepare(batch, jax.random.key(1))
  phase = recipe.phases[0]
  assert phase.weights(prepared) == {"loss": 8, "probe": 8}

  def probe(params):
    return phase.join(params, phase.embed(params, extras, prepared, jax.random.key(2))[0])[0]["probe"]

  gradient = jax.jit(jax.grad(probe))(params)
  assert all(not np.any(g) for g in jax.tree.leaves({**gradient, "classifier": {}}))
  assert np.any(gradient["classifier"]["kernel"])


@pytest.mark.slow
def test_the_classifier_learns_from_each_view(parsed, batch):
  """Its loss is the mean over both views of their own entropies, not that of their mean logits."""
  recipe, params, _ = start(dataclasses.replace(parsed, classes=3), batch)
  rng = np.random.default_rng(0)
  z = {name: rng.normal(size=(4, 8)).astype(np.float32) for name in "ab"}
  logits, label = rng.normal(size=(4, 2, 3)).astype(np.float32), np.array([0, 1, 2, 0])
  terms, metrics = recipe.phases[0].join(params, {**z, "logits": jnp.asarray(logits), "label": jnp.asarray(label)})
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  each = -np.log(p[np.arange(4)[:, None], np.arange(2), label[:, None]])
  np.testing.assert_allclose(terms["probe"], each.mean(1).sum(), rtol=1e-5)
  np.testing.assert_allclose(metrics["probe_accuracy"], (logits.argmax(-1) == label[:, None]).mean())


@pytest.mark.slow
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_stops_the_classifier(parsed, batch, label):
  recipe, params, _ = start(dataclasses.replace(parsed, classes=3), batch)
  z = {name: jnp.eye(4, 8) for name in "ab"} | {"label": jnp.array([0, label, 2, 0])}
  probe = lambda logits: recipe.phases[0].join(params, {**z, "logits": logits})[0]["probe"]
  value, gradient = jax.value_and_grad(probe)(jnp.ones((4, 2, 3)))
  assert np.isnan(value)
  np.testing.assert_array_equal(np.isnan(gradient).any((1, 2)), [False, True, False, False])


def test_the_classifier_is_asked_about_its_own_classes(parsed):
  """A source with more classes has labels that the classifier does not know, one with fewer numbers them otherwise."""
  source = "synthetic:pairs?n=32&size=16"
  evals = {"own": simclr.Evaluation(kind="online", source=source)}
  opened = lambda classes: recipes.build(dataclasses.replace(parsed, classes=classes, evals=evals)).evals["own"].open()
  opened(6)
  for classes in (5, 7):
    with pytest.raises(ValueError, match=rf"classes = {classes}; the evaluation.s source synthetic:.* has \('circle"):
      opened(classes)


def test_evaluations_say_what_they_need(parsed, root):
  load = lambda *overrides: recipes.parse(config.load(f"{root}/configs/contrastive/simclr_cifar.py:smoke", overrides))
  source = "synthetic:pairs?n=32&size=16"
  with pytest.raises(ValueError, match="kind 'knn' has labelled = None; online needs none, the others one"):
    load(f"evals={ {'knn': {'kind': 'knn', 'source': source}} }")
  with pytest.raises(ValueError, match=r"config.evals.own.kind = 'online' .* config.classes = 0 has none"):
    load(f"evals={ {'own': {'kind': 'online', 'source': source}} }")
  told = {"kind": "transformation", "source": source, "labelled": source}
  with pytest.raises(ValueError, match="kind 'transformation' has 0 choices; transformation needs 2 or more"):
    load(f"evals={ {'told': told} }")
  with pytest.raises(ValueError, match="kind 'knn' has 1 choices; transformation needs 2 or more, the others none"):
    load(f"evals={ {'knn': {**told, 'kind': 'knn', 'choices': ((('sobel',),),)}} }")
  for shares in ((0.5,), (0.5, 0.6), (0.0, 1.0)):
    with pytest.raises(ValueError, match=r"shares = \(.*\) of 2 choices; legal: one above 0 for each, 1 in all"):
      load(f"evals={ {'told': {**told, 'choices': ((), (('sobel',),)), 'shares': shares}} }")
  thirds = simclr.Evaluation(**told, choices=((), (), ()), shares=(0.3333333,) * 3)
  assert sum(thirds.odds) == pytest.approx(1, abs=1e-12)
  with pytest.raises(ValueError, match=r"config.evals.told.choices: .*rotate by \(45,\); legal: multiples of 90"):
    recipes.build(load(f"evals={ {'told': {**told, 'choices': ((), (('rotate', (45,)),))}} }"))
  few = {**told, "labelled": "synthetic:pairs?n=4&size=16", "choices": ((), (("sobel",),))}
  with pytest.raises(ValueError, match="config.evals.told: 4 pictures of synthetic:.* are too few; legal: 5 or more"):
    recipes.build(load(f"evals={ {'told': few} }")).evals["told"].open()
  with pytest.raises(ValueError, match="unknown transformation 'turn'; legal: color, rotation, noise, sobel"):
    config.load(f"{root}/configs/contrastive/simclr_cifar.py:smoke,transformation=turn")


@pytest.mark.slow
def test_classes_may_be_the_partners(parsed, batch):
  """SupCon: views of a class attract each other, so labels change the loss, and streams must have them."""
  supervised = dataclasses.replace(parsed, loss={"name": "supervised_contrastive"})
  recipe, params, extras = start(supervised, batch)
  prepared = recipe.prepare(batch, jax.random.key(1))
  z, _ = recipe.phases[0].embed(params, extras, prepared, jax.random.key(2))
  assert recipe.phases[0].weights(prepared) == {"loss": 8}
  for labels in (batch["label"], jnp.arange(8)):
    got = recipe.phases[0].join(params, {**z, "label": labels})[0]["loss"]
    np.testing.assert_allclose(got, views.supervised_contrastive(z["a"], z["b"], labels)[0], rtol=1e-6)
  with pytest.raises(ValueError, match="the streams of simclr must give 'label'"):
    start(supervised, {"image": batch["image"]})


def test_a_stream_without_labels_cannot_feed_the_classifier(parsed, batch):
  with pytest.raises(ValueError, match="the streams of simclr must give 'label'; there is image"):
    start(dataclasses.replace(parsed, classes=3), {"image": batch["image"]})


@pytest.fixture(scope="module")
def workdir(root, tmp_path_factory):
  """A finished smoke run on crops of the host with a classifier beside, and evaluations on the synthetic classes."""
  workdir = tmp_path_factory.mktemp("simclr") / "run"
  source = "synthetic:pairs?n=32&size=16"
  evals = {"knn": {"kind": "knn", "labelled": source, "source": source}, "own": {"kind": "online", "source": source}}
  evals["told"] = {**evals["knn"], "kind": "transformation", "choices": ((), (("sobel",),))}
  keep = ("keep", "image", "image_other", "label")
  steps = f"streams.train.transforms={[('decode',), ('two_crops', 16), keep]}"
  changed = [f"evals={evals}", "classes=6", steps, "augment=[('flip_lr',)]"]
  raw = config.load(f"{root}/configs/contrastive/simclr_cifar.py:smoke", changed)
  assert experiment.train(raw, workdir)
  return workdir


@pytest.mark.slow
def test_evaluations_read_the_running_statistics(workdir):
  """kNN of a gallery on itself finds each picture; so the weights that are stored are those that evaluated."""
  rows = writers.read(workdir)
  assert rows[-1]["knn/top5"] >= rows[-1]["knn/top5/chance"]
  weights, metadata = load_params(workdir)
  assert "batch_stats" in weights
  recipe = recipes.build(recipes.parse(metadata.config))
  image = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
  features = recipe.predict["encode_image"](weights, image)
  moved = {**weights, "batch_stats": jax.tree.map(lambda x: x + 1.0, weights["batch_stats"])}
  assert features.shape == (4, recipe.model.backbone.width)
  kernel, bias = weights["classifier"]["kernel"], weights["classifier"]["bias"]
  np.testing.assert_allclose(recipe.predict["logits"](weights, image), features @ kernel + bias, atol=1e-5)
  assert 0 <= rows[-1]["own/top1"] <= rows[-1]["own/top5"] <= 1
  assert {name for name in rows[-1] if name.startswith("told/")} == {
    f"told/{part}/{metric}" for part in ("features", "projection") for metric in ("top1", "top1/chance")
  }
  projected = recipe.predict["project"](weights, features)
  np.testing.assert_allclose(projected, recipe.model.apply(batch_norm.variables(weights), image / 255.0)[0], atol=1e-5)
  assert not np.allclose(features, recipe.predict["encode_image"](moved, image))
