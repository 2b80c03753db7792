"""Classification from scratch, on frozen features and from another run's."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from vljax import config, experiment, recipes, tree
from vljax.checkpoint import load_params
from vljax.recipes import classification
from vljax.train import gradients, loop, writers


@pytest.fixture(scope="module")
def load(root):
  """A function (file, arguments, overrides) -> raw config."""
  return lambda file, arguments="smoke", *overrides: config.load(
    f"{root}/configs/contrastive/{file}.py:{arguments}", overrides
  )


@pytest.fixture(scope="module")
def supervised(load, tmp_path_factory):
  """The workdir of a short supervised run with all that `prepare` can do."""
  workdir = tmp_path_factory.mktemp("supervised") / "run"
  changes = ("config.mixup=0.2", "config.cutmix=1.0", "config.label_smoothing=0.1", "config.augment=[('flip_lr',)]")
  assert experiment.train(load("supervised_r50", "smoke", *changes), workdir)
  return workdir


@pytest.mark.slow
def test_supervised_training_moves_the_statistics_and_reports_accuracy(supervised):
  rows = writers.read(supervised)
  assert np.isfinite([row["classify/train/loss"] for row in rows]).all()
  assert rows[0]["classify/train/loss"] == pytest.approx(np.log(6), rel=1e-4)  # a new classifier knows nothing
  assert rows[-1]["val/top5/chance"] == pytest.approx(5 / 6)
  assert 0 <= rows[-1]["val/top1"] <= rows[-1]["val/top5"] <= 1
  weights, _ = load_params(supervised)
  assert set(weights) == {"backbone", "classifier", "batch_stats"}
  assert all(np.any(x) for x in jax.tree.leaves(weights["batch_stats"]))


@pytest.mark.slow
def test_linear_evaluation_changes_nothing_but_the_classifier(load, supervised, tmp_path):
  raw = load("linear_r50", f"smoke,init={supervised}", "config.streams.train.batch=16")
  features = dict(source=raw.evals.val.source, labelled=raw.streams.train.source, batch=8)
  with raw.unlocked():
    raw.evals.update(dict(knn=dict(kind="knn", **features), probe=dict(kind="probe", penalties=(1.0,), **features)))
  assert recipes.build(recipes.parse(raw)).model.frozen
  assert experiment.train(raw, tmp_path / "run")
  before, after = (tree.flatten(load_params(folder)[0]) for folder in (supervised, tmp_path / "run"))
  for name, leaf in after.items():
    changed = np.any(np.asarray(leaf, np.float32) != np.asarray(before[name], np.float32))
    assert changed == name.startswith("classifier/"), name
  assert {"val/top1", "knn/top1", "probe/top1", "probe/penalty"} <= set(writers.read(tmp_path / "run")[-1])
  (record,) = json.loads((tmp_path / "run" / loop.INIT).read_text())
  assert any(name.startswith("batch_stats/backbone/") for name in record["leaves"])


def test_micro_batches_are_for_features_that_are_frozen(load):
  def shapes(file, arguments):
    recipe = recipes.build(recipes.parse(load(file, arguments)))
    (phase,), key = recipe.phases, jax.random.key(0)
    batch = {"image": jnp.zeros((4, 16, 16, 3), jnp.uint8), "label": jnp.zeros(4, jnp.int32)}

    def run(rng):
      params, extras = meta.unbox(recipe.init(rng, batch))
      cut = tree.split(params, phase.trains)
      sides = cut.live(params), cut.held(params)
      return gradients.gradients(phase, cut, *sides, extras, recipe.prepare(batch, rng), rng, 2).grads

    return jax.eval_shape(run, key)

  assert set(tree.flatten(shapes("linear_r50", "smoke,init=elsewhere"))) == {"classifier/kernel", "classifier/bias"}
  with pytest.raises(
    ValueError, match="phase 'classify': 'batch_stats/backbone/.*' is a statistic of the whole batch"
  ):
    shapes("supervised_r50", "smoke")


@pytest.mark.slow
def test_the_features_of_the_frozen_run_are_the_other_runs(load, supervised):
  image = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
  weights, _ = load_params(supervised)
  same = "config.preprocess.normalize='none'"
  features = [
    recipes.build(recipes.parse(load(file, "smoke", same))).predict["encode_image"](weights, image)
    for file in ("supervised_r50", "linear_r50")
  ]
  np.testing.assert_array_equal(*features)


def test_wrong_configs(load, tmp_path):
  build = lambda *changes: recipes.build(recipes.parse(load("finetune_r50", "smoke", *changes)))
  with pytest.raises(ValueError, match="tower of config.backbone 'resnett'; did you mean 'resnet'"):
    build("config.backbone.tower=resnett")
  with pytest.raises(ValueError, match=r"config.tap = 1 .* needs config.head"):
    build("config.tap=1")
  with pytest.raises(ValueError, match=r"config.mixup = -1.0; legal: 0 or more"):
    build("config.mixup=-1.0")
  with pytest.raises(ValueError, match="kind 'knn' has labelled = None"):
    build("config.evals.val.kind=knn")
  with pytest.raises(ValueError, match="there is no 'label' among image"):
    classification.check_fields({"image": np.zeros(1)})
  with pytest.raises(ValueError, match=r"config.classes = 4; the evaluation's source synthetic:.* has \('circle'"):
    experiment.train(load("finetune_r50", "smoke", "config.classes=4"), tmp_path / "run")


def test_fine_tuning_keeps_the_layers_of_the_head_that_are_tapped(load):
  parsed = recipes.parse(load("finetune_r50", "smoke,tap=1,init=elsewhere"))
  assert parsed.init == (("elsewhere", "((?:batch_stats/)?(?:backbone/.*|head/(?:linear|norm)_0/.*))", ""),)
  model = recipes.build(parsed).model
  assert not model.frozen
  params = jax.eval_shape(model.init, jax.random.key(0), *model.inputs())["params"]
  assert set(params["head"]) == {"linear_0", "norm_0"}
