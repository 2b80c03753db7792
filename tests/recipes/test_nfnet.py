"""NFNets in the recipes that take them: kernels standardized once per step, clipped by units, on any mesh."""

import contextlib
import re

import jax
import numpy as np
import pytest

from vljax import config, recipes, tree
from vljax.data import vocabulary
from vljax.models import fitting
from vljax.ops import augment
from vljax.train import optim
from vljax.train import trainer as trainer_module


@pytest.fixture(scope="module")
def load(root):
  """A function (file, overrides) -> the parsed `:smoke` config."""
  return lambda file, *overrides: recipes.parse(config.load(f"{root}/configs/contrastive/{file}.py:smoke", overrides))


TWO_STAGES = "--config.image.depths=(1, 2)", "--config.image.widths=(32, 64)"
"""One block alone, and a stage whose equal blocks are scanned: half of what four stages take to compile."""


class Steps:
  """The steps of a parsed config on the first `devices` devices: parameters before and after, and metrics."""

  def __init__(self, parsed, folder, devices, monkeypatch):
    tokenizer = vocabulary.prepare(parsed.tokenizer, folder) if parsed.tokenizer else None
    make_mesh = trainer_module.meshes.make
    monkeypatch.setattr(trainer_module.meshes, "make", lambda mesh: make_mesh(mesh, jax.devices()[:devices]))
    trainer, self.metrics = trainer_module.Trainer(recipes.build(parsed, tokenizer), parsed, tokenizer), []
    with trainer.use(), contextlib.ExitStack() as stack:
      loaders = {name: stack.enter_context(loader) for name, loader in trainer.loaders({}).items()}
      state = trainer.fresh()
      self.before = tree.unstack(jax.tree.map(np.asarray, state.params))
      for step in range(parsed.steps):
        due = trainer.due(step)
        state, metrics = trainer.step(state, {name: trainer.put(next(loaders[name])) for _, name in due}, due)
        self.metrics.append({name: float(value) for name, value in metrics.items()})
      self.after = tree.unstack(jax.tree.map(np.asarray, state.params))

  @property
  def still(self):
    """The leaves that did not move."""
    return {name for name, leaf in self.after.items() if np.array_equal(leaf, self.before[name])}


@pytest.fixture(scope="module")
def vision(load, tmp_path_factory):
  """A function (overrides, devices) -> two steps of Flamingo's vision encoder with two stages, made once."""
  made = {}

  def run(*overrides, devices=1):
    if (overrides, devices) not in made:
      with pytest.MonkeyPatch.context() as patch:
        parsed = load("flamingo_vision", *TWO_STAGES, *overrides)
        made[overrides, devices] = Steps(parsed, tmp_path_factory.mktemp("vision"), devices, patch)
    return made[overrides, devices]

  return run


@pytest.mark.slow
def test_the_published_settings(root):
  parsed = recipes.parse(config.load(f"{root}/configs/contrastive/flamingo_vision.py"))
  assert (parsed.dim, parsed.label_smoothing, parsed.combine, parsed.steps) == (1376, 0.1, "accumulate", 1_200_000)
  assert {name: stream.batch for name, stream in parsed.streams.items()} == {"align": 16_384, "ltip": 16_384}
  model = recipes.build(parsed).model
  assert (model.image.image_size, model.image.width, model.text.pool) == (288, 3072, "mean")
  assert tree.count(fitting.abstract(model.image)) == 435_286_116
  group = lambda name: parsed.optim[optim.match(parsed.optim, name)][1]
  assert (group("image/final/kernel").agc, group("image/final/kernel").clip) == (0.01, None)
  assert (group("text/blocks/0/mlp/up/kernel").agc, group("text/blocks/0/mlp/up/kernel").clip) == (None, 10.0)
  assert (group("image_head/kernel").agc, group("image_head/kernel").clip) == (None, None)
  small = recipes.parse(config.load(f"{root}/configs/contrastive/flamingo_vision.py:variant=f0,combine=merge"))
  assert (small.combine, small.image["variant"]) == ("merge", "F0")
  assert {name: stream.batch for name, stream in small.streams.items()} == {"align": 1024, "ltip": 1024}


def test_the_classifier_is_neither_clipped_by_units_nor_gains_decayed(root):
  parsed = recipes.parse(config.load(f"{root}/configs/contrastive/nfnet_imagenet.py:variant=F1"))
  group = lambda name: parsed.optim[optim.match(parsed.optim, name)][1]
  block = "backbone/stage_2/blocks/3"
  settings = {
    "classifier/kernel": (None, 2e-4), "classifier/bias": (None, 0.0), f"{block}/conv_2/kernel": (0.01, 2e-4),
    f"{block}/conv_2/gain": (0.01, 0.0), f"{block}/conv_2/bias": (0.01, 0.0), f"{block}/skip_gain": (0.01, 0.0),
    f"{block}/se/squeeze/kernel": (0.01, 2e-4), f"{block}/se/squeeze/bias": (0.01, 0.0),
  }  # fmt: skip
  assert {name: (group(name).agc, group(name).wd) for name in settings} == settings
  assert (group("classifier/kernel").nesterov, group("classifier/kernel").b1) == (True, 0.9)
  assert parsed.schedule.peak(4096) == pytest.approx(1.6)
  assert parsed.dropout == 0.3


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "magnitude"), [("F0", 15), ("F2", 30), ("F3", 30)])
def test_pictures_go_through_rand_augment_and_stay_pictures(root, variant, magnitude):
  """Their magnitudes are of 10, ours of 30; beyond that, half of the changes of brightness would leave nothing."""
  parsed = recipes.parse(config.load(f"{root}/configs/contrastive/nfnet_imagenet.py:variant={variant}"))
  assert parsed.augment == (("rand_augment", 4, magnitude, {"fill": 0.5}),)
  image = np.random.default_rng(0).random((200, 8, 8, 3), np.float32)
  seen = np.asarray(jax.jit(augment.build(parsed.augment))(jax.random.key(0), image))
  assert (np.abs(seen - image).max((1, 2, 3)) > 0.1).mean() > 0.9
  assert (seen.std((1, 2, 3)) > 0).mean() > 0.9


@pytest.mark.slow
def test_two_steps_move_every_leaf(vision):
  run = vision()
  assert all(np.isfinite(list(metrics.values())).all() for metrics in run.metrics)
  assert {"clip/align/loss", "clip/ltip/loss"} <= set(run.metrics[0])
  assert all(name.endswith("attention/key/bias") for name in run.still), "softmax ignores these alone"


@pytest.mark.slow
def test_micro_batches_with_one_view_are_the_whole_batch(vision):
  cut = [f"--config.streams.{name}.micro=2" for name in ("align", "ltip")]
  one, many = vision(), vision(*cut)
  for name in ("clip/align/loss", "clip/ltip/loss", "clip/grad_norm"):
    for a, b in zip(one.metrics, many.metrics, strict=True):
      assert b[name] == pytest.approx(a[name], rel=1e-4), name


@pytest.mark.slow
def test_a_mesh_changes_nothing(vision):
  one, many = vision(), vision("--config.mesh.fsdp=2", "--config.mesh.tensor=2", devices=8)
  for name in ("clip/align/loss", "clip/ltip/loss", "clip/grad_norm"):
    for a, b in zip(one.metrics, many.metrics, strict=True):
      assert b[name] == pytest.approx(a[name], rel=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("file", ["flamingo_vision", "nfnet_imagenet"])
def test_the_view_is_what_the_module_does_without_it(load, file):
  """The gradient through kernels standardized outside equals that of a module that standardizes its own."""
  recipe = recipes.build(load(file))
  part = "image" if file == "flamingo_vision" else "backbone"
  tower, rng = getattr(recipe.model, part), np.random.default_rng(0)
  x = rng.normal(size=tower.inputs(2)[0].shape).astype(np.float32)
  draw = lambda x: 1.0 + 0.1 * rng.normal(size=x.shape).astype(np.float32)
  params = {part: jax.tree.map(draw, fitting.abstract(tower))}
  value = lambda tower, view: lambda p: (tower.apply({"params": view(p)[part]}, x) ** 2).sum()
  wanted = tree.flatten(jax.jit(jax.grad(value(tower, lambda p: p)))(params))
  found = tree.flatten(jax.jit(jax.grad(value(tower.clone(folded=True), recipe.view)))(params))
  for name, leaf in wanted.items():
    np.testing.assert_allclose(found[name], leaf, atol=1e-4 * max(np.abs(leaf).max(), 1e-6), err_msg=name)


@pytest.mark.slow
def test_augmentation_on_the_device_is_drawn_once_per_step(load):
  recipe = recipes.build(load("flamingo_vision"))
  image = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
  batch = {"image": image, "tokens": np.zeros((8, 16), np.int32)}
  a, b = (jax.jit(recipe.prepare)(batch, jax.random.key(seed)) for seed in (0, 1))
  assert np.abs(a["image"] - image).max() > 10
  assert np.abs(a["image"] - b["image"]).max() > 10
  assert a["image"].min() >= 0
  assert a["image"].max() <= 255.001
  plain = recipes.build(load("flamingo_vision", "--config.augment=[]"))
  assert plain.prepare(batch, jax.random.key(0)) is batch
  features = {"image_features": np.zeros((2, 3))}
  assert recipe.prepare(features, jax.random.key(0)) is features


@pytest.mark.slow
def test_classification_takes_its_steps(load, tmp_path, monkeypatch):
  run = Steps(load("nfnet_imagenet"), tmp_path, 1, monkeypatch)
  assert run.metrics[0]["classify/train/loss"] == pytest.approx(np.log(6), rel=1e-3)  # knows nothing at the start
  assert np.isfinite(run.metrics[1]["classify/grad_norm"])
  branches = re.compile(r"backbone/stage_\d/.*/(conv_(1|2|2b|3)|se/\w+)/\w+")  # behind gains that begin at 0
  assert not [name for name in run.still if not branches.fullmatch(name)]
