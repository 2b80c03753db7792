"""The papers' tables: every row is a config that builds, and differs from the others in what its name says."""

import ast
import dataclasses
import importlib.util
import pathlib
import re

import jax
import numpy as np
import pytest

from vljax import config, recipes, sweep
from vljax.ops import augment
from vljax.recipes.flamingo import NEW

ROOT = pathlib.Path(__file__).parent.parent
SIMCLR = ROOT / "configs/ablations/simclr.py"
FILES = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "configs/ablations").glob("*.py"))


def names(file, small):
  spec = importlib.util.spec_from_file_location(pathlib.Path(file).stem, ROOT / file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return list(module.sweep(small))


LARGE = ("parts", "further")
TABLES = [
  pytest.param(file, name, small, marks=[pytest.mark.slow] if name in LARGE else [])
  for file in FILES
  for small in (False, True)
  for name in names(file, small)
]


def crops(parsed):
  """The sizes that pictures are cropped to."""
  steps = [*getattr(parsed, "augment", ()), *(getattr(parsed, "augment_other", None) or ())]
  steps += parsed.streams["train"].transforms if "train" in parsed.streams else []
  return {step[1] for step in steps if step[0] == "random_resized_crop"}


@pytest.mark.slow
@pytest.mark.parametrize(("file", "name", "small"), TABLES)
def test_rows_build_and_are_distinct(file, name, small, tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  found = sweep.load(f"{file}:{name}", small)
  loaded = [job.load() for job in sweep.jobs(found, tmp_path)]
  plain = crops(recipes.parse(config.load(found.config)))
  for raw in loaded:
    parsed = recipes.parse(raw)
    model = recipes.build(dataclasses.replace(parsed, evals={})).model
    if hasattr(model, "backbone") and name != "transfer":
      assert crops(parsed) == plain
      assert len(plain) == 1
      assert small or plain == {model.backbone.image_size}
  for i in range(1, len(loaded)):
    assert config.diff(loaded[0], loaded[i]), f"rows {found.rows[0].name!r} and {found.rows[i].name!r} are one run"
  first = recipes.parse(loaded[0])
  measured = [column for column in found.columns.values() if column.metric is not None]
  assert measured
  for column in measured:
    assert column.metric.split("/")[0] in {*first.evals, first.recipe}, column


def test_arguments_of_rows_are_those_of_their_names():
  """Depth, width and kernels of SimCLRv2 come from the row; so does the share of labels."""
  for job in sweep.jobs(sweep.load(f"{SIMCLR}:v2"), "runs"):
    parsed = recipes.parse(job.load())
    depth, times = map(int, re.findall(r"\d+", job.row.name))
    assert (parsed.backbone["variant"], parsed.backbone["width_multiplier"]) == (f"resnet{depth}", times)
    assert bool(parsed.backbone.get("sk_ratio")) == job.row.name.endswith("SK")
    assert (parsed.head.layers, parsed.optim[-1][1].wd) == (3, 1e-4)
  shares = [job.load().streams.train.source for job in sweep.jobs(sweep.load(f"{SIMCLR}:labels"), "runs")]
  assert shares == [f"tfds:imagenet2012?part=train&split=val&holdout={share}" for share in (0.01, 0.1)]


@pytest.mark.parametrize("file", FILES)
def test_docstring_shows_how_to_run_each_table(file):
  text = ast.get_docstring(ast.parse((ROOT / file).read_text()))
  assert f"python launch/sweep.py --sweep={file}:" in text
  for name in names(file, False):
    assert name in text


def test_numbers_of_simclr_are_those_of_the_paper():
  best = {}
  for name in set(names(SIMCLR, False)) - {"head", "pairs"}:
    found = sweep.load(f"{SIMCLR}:{name}")
    best[name] = max((row.paper[next(iter(found.columns))], row.name) for row in found.rows)
  assert best == {
    "broader": (76.8, "width 4"),
    "color_supervised": (77.1, "AutoAugment"),
    "labels": (65.6, "10% of the labels"),
    "supervised": (78.9, "crop, color, 90 epochs, width 4"),
    "transfer": (90.6, "cifar10"),
    "v2": (79.8, "ResNet-152, width 3, SK"),
    "width": (76.5, "width 4"),
    "color": (64.5, "1 and blur"),
    "losses": (63.9, "NT-Xent"),
    "transformation": (99.5, "original or corrupted"),
    "temperature": (64.4, "unit length, 0.1"),
    "batch_linear": (69.0, "batch 8192, 800 epochs"),
    "batch_sqrt": (69.1, "batch 8192, 800 epochs"),
  }
  row = lambda table, name: next(row for row in sweep.load(f"{SIMCLR}:{table}").rows if row.name == name).paper
  assert list(row("v2", "ResNet-152, width 3, SK").values()) == [79.8, 74.9, 80.1, 83.1, 80.5]
  assert list(row("labels", "1% of the labels").values()) == [48.3, 75.5, 58.5, 83.0, 63.0, 85.8]
  assert row("transfer", "cifar10")["linear top-1, width 4"] == 95.3
  assert row("transformation", "rotation") == {"from h": 67.6, "from g(h)": 25.6, "random guess": 25.0}


def test_the_asked_transformation_is_in_the_views(monkeypatch):
  """All but the color's are added to those of a run without; features and projections are equally wide."""
  monkeypatch.chdir(ROOT)
  for small, width in ((False, 2048), (True, 128)):
    found = sweep.load(f"{SIMCLR}:transformation", small)
    plain = recipes.parse(config.load(found.config)).augment
    parsed = [recipes.parse(job.load()) for job in sweep.jobs(found, "runs")]
    added = [p.augment[len(plain) :] for p in parsed]
    assert [[step[0] for step in steps] for steps in added] == [[], ["rotate"], ["gaussian_noise"], ["sobel"]]
    assert all(p.augment[: len(plain)] == plain and p.head.dim == width for p in parsed)
    assert recipes.build(dataclasses.replace(parsed[0], evals={})).model.backbone.width == width
    asked = [[[step[0] for step in steps] for steps in p.evals["transformation"].choices] for p in parsed]
    assert asked == [[[], ["grayscale"]], [["rotate"]] * 4, [[], ["gaussian_noise"]], [[], ["sobel"]]]
    assert [len({*p.evals["transformation"].odds}) for p in parsed] == [2, 1, 1, 1]


@pytest.mark.parametrize(
  "spec", ["cifar.py:smoke", "cifar.py:dir=x", "r50.py:smoke", "r50.py:depth=34", "r50.py:v2,width=2"]
)
def test_projections_that_are_asked_are_as_wide_as_features(spec, monkeypatch):
  monkeypatch.chdir(ROOT)
  parsed = recipes.parse(config.load(f"configs/contrastive/simclr_{spec},transformation=noise"))
  assert recipes.build(dataclasses.replace(parsed, evals={})).model.backbone.width == parsed.head.dim


@pytest.mark.slow
def test_each_operation_of_the_small_pairs_changes_a_small_picture():
  """At 16 px, in one of 16 draws at least; a blur of no width would leave rows of the table without a meaning."""
  image = np.random.default_rng(0).uniform(size=(1, 16, 16, 3)).astype(np.float32)
  same = np.tile(image, (16, 1, 1, 1))
  alone = [row for row in sweep.load(f"{SIMCLR}:pairs", small=True).rows if ", " not in row.name]
  assert len(alone) == 7
  for row in alone:
    changed = jax.jit(augment.build(row.overrides["augment_other"]))(jax.random.key(0), same)
    assert np.abs(changed - same).max() > 0.1, row.name


@pytest.mark.slow
@pytest.mark.parametrize("small", [False, True])
def test_rows_of_simclr_keep_the_protocol_of_their_size(small, monkeypatch):
  """Evaluations see 224 px of 256 but for transfer (appendix B.8); v1 adds brightness. The small rows do neither."""
  monkeypatch.chdir(ROOT)
  kept, brightness = {}, {}
  for name in names(SIMCLR, small):
    for job in sweep.jobs(sweep.load(f"{SIMCLR}:{name}", small), "runs"):
      raw = config.to_dict(job.load())
      kept.setdefault(name, set()).update(e.get("crop", 1.0) for e in raw["evals"].values())
      steps = [*raw.get("augment", ()), *(raw.get("augment_other") or ())]
      how = {
        (dict(enumerate(step)).get(2) or {}).get("brightness", "multiply") for step in steps if "jitter" in step[0]
      }
      brightness.setdefault(name, set()).update(how)
  assert kept == {name: {1.0 if small or name == "transfer" else 0.875} for name in kept}
  brightness = {name: how for name, how in brightness.items() if how}
  assert {"pairs", "color"} < set(brightness)
  assert brightness == {name: {"multiply" if small or name == "v2" else "add"} for name in brightness}


def test_simclr_v2_has_its_own_rate(monkeypatch):
  """A peak of 0.1 sqrt(4096) after 5 % of the steps (arXiv 2006.10029, section 3)."""
  monkeypatch.chdir(ROOT)
  parsed = recipes.parse(sweep.jobs(sweep.load(f"{SIMCLR}:v2"), "runs")[0].load())
  assert parsed.schedule.peak(parsed.streams["train"].batch) == pytest.approx(6.4)
  assert parsed.schedule.warmup == parsed.steps // 20


def test_batch_and_epochs_have_the_learning_rates_and_steps_of_the_paper(monkeypatch):
  monkeypatch.chdir(ROOT)
  found = {}
  for scaling in ("linear", "sqrt"):
    for job in sweep.jobs(sweep.load(f"configs/ablations/simclr.py:batch_{scaling}"), "runs"):
      parsed = recipes.parse(job.load())
      size = parsed.streams["train"].batch
      found[scaling, job.row.name] = parsed.steps, parsed.schedule.warmup, parsed.schedule.peak(size)
  assert found["linear", "batch 256, 100 epochs"] == (500_456, 50_040, pytest.approx(0.3))
  assert found["sqrt", "batch 256, 100 epochs"] == (500_456, 50_040, pytest.approx(1.2))
  assert found["sqrt", "batch 4096, 800 epochs"] == (250_228, 3_120, pytest.approx(4.8))
  assert len(found) == 48


@pytest.mark.parametrize(("small", "gradients", "batch"), [(False, 1_000_000, 2048), (True, 400, 128)])
def test_ways_to_combine_take_as_many_gradients_of_as_many_examples(small, gradients, batch, monkeypatch):
  monkeypatch.chdir(ROOT)
  found = sweep.load("configs/ablations/flamingo.py:combination", small)
  parsed = {job.row.name: recipes.parse(job.load()) for job in sweep.jobs(found, "runs")}
  assert [len(run.streams) for run in parsed.values()] == [1, 1, 2, 2, 2]
  for run in parsed.values():
    sizes = [stream.batch for stream in run.streams.values()]
    assert run.steps * (len(sizes) if run.combine == "accumulate" else 1) == gradients
    assert {sum(sizes)} == {batch} if run.combine == "merge" else set(sizes) == {batch}
  paper = {row.name: row.paper["ImageNet top-1"] for row in found.rows}
  assert list(paper.values()) == [40.8, 35.2, 45.6, 38.6, 41.2]
  asked = {column.metric for column in found.columns.values()}
  assert ("imagenet/top1" in asked, "coco/text_to_image/R@10" in asked) == (not small, not small)


def test_round_robin_computes_the_gradients_of_the_baseline(monkeypatch):
  """Equal step times in the paper, so equal work: a million gradients of four sets in turn, or 250,000 times all."""
  monkeypatch.chdir(ROOT)
  jobs = {job.row.name: job for job in sweep.jobs(sweep.load("configs/ablations/flamingo.py:parts"), "runs")}
  runs = {name: recipes.parse(jobs[name].load()) for name in ("baseline", "round-robin")}
  assert [len(run.streams) for run in runs.values()] == [4, 4]
  assert (runs["baseline"].steps, runs["baseline"].combine) == (250_000, "accumulate")
  assert (runs["round-robin"].steps, runs["round-robin"].combine) == (1_000_000, "round_robin")


TRAINED = dict.fromkeys(("vision from random", "vision trained on"), "|vision/.*") | dict.fromkeys(
  ("LM trained from random", "LM trained on", "LM co-trained from random", "LM co-trained slowly"), "|lm/.*"
)


def test_rows_of_flamingo_train_what_their_names_say():
  """29 rows beside two baselines; each part beside the default ones only where the row says so."""
  found = {row.name: row for name in LARGE for row in sweep.load(f"{ROOT}/configs/ablations/flamingo.py:{name}").rows}
  assert len(found) == 30
  for name, row in found.items():
    assert row.overrides.get("trains", NEW) == NEW + TRAINED.get(name, "")
    assert 1.9 < row.paper["billions of parameters"] < 3.5
    assert 0.8 < row.paper["seconds a step"] < 5.4
    divisors = dict(COCO=143.3, OKVQA=54.4, VQAv2=80.2, MSVDQA=47.9, VATEX=76.3)
    if name != "LM pretrained on C4":
      overall = sum(100 * row.paper[task] / best for task, best in divisors.items()) / 5
      assert overall == pytest.approx(row.paper["overall"], abs=0.2), name
