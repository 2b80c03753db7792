"""Plans against the real, sharded state, and against what compilation says."""

import json
import math
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from vljax import config, parallel, plan, recipes
from vljax.models import dual_encoder
from vljax.objectives.contrastive import choice
from vljax.train import metrics, schedules
from vljax.train import state as states
from vljax.train.optim import Optimiser
from vljax.train.step import Step, due_at

ROOT = pathlib.Path(__file__).parent.parent


def device_bytes(tree) -> int:
  """Bytes of a sharded tree on its first device."""
  return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


@pytest.mark.slow
@pytest.mark.parametrize("ways", [(1, 1, 1), (4, 2, 1), (2, 2, 2)])
def test_state_bytes_are_those_of_the_real_state(make_trainer, smoke, ways):
  mesh = [f"mesh.{axis}={n}" for axis, n in zip(("data", "fsdp", "tensor"), ways, strict=True)]
  overrides = [*mesh, "streams.train.batch=16", "ema={'halflife': 100}"]
  found = plan.plan(smoke(*overrides), int(np.prod(ways)))
  trainer = make_trainer(*overrides, devices=int(np.prod(ways)))
  with trainer.use():
    state = trainer.fresh()
  assert found.bytes["parameters"] == device_bytes(state.params)
  assert found.bytes["optimiser"] == device_bytes(state.opt)
  assert found.bytes["ema"] == device_bytes(state.ema)
  assert found.parameters == sum(x.size for x in jax.tree.leaves(state.params))


def test_the_default_form_follows_pairs_and_devices():
  pairs = math.isqrt(choice.LARGE)
  assert [choice.form(pairs), choice.form(pairs + 1), choice.form(pairs + 1, 2)] == ["plain", "tiled", "plain"]
  assert choice.form(2 * pairs, 2) == "ring"
  assert choice.choose(None, pairs + 1)[0] == choice.form(pairs + 1)


def of(root, arguments="", *overrides, devices=64, **options):
  return plan.plan(config.load(f"{root}/configs/contrastive/clip.py:{arguments}", overrides), devices, **options)


@pytest.mark.slow
def test_work_is_that_of_the_published_model(root):
  """open_clip's profile has 14.78 GFLOP (multiply and add) a pair of ViT-B/32 forward; backward takes twice that."""
  found = of(root, "batch=64", devices=1)
  remat = 1.0  # `dots` computes no product again
  assert found.flops / 64 == pytest.approx(3 * 14.78e9 * remat, rel=0.1)
  assert found.parameters == 151_277_313


@pytest.mark.slow
def test_remat_and_micro_batches_save_activations(root):
  saved = {
    name: of(root, "batch=1024", *overrides, devices=8).bytes["activations"]
    for name, overrides in {
      "none": ["image.remat='none'", "text.remat='none'"],
      "dots": [],
      "full": ["image.remat=full", "text.remat=full"],
      "micro": ["streams.train.micro=4"],
    }.items()
  }
  assert saved["none"] > saved["dots"] > saved["full"]
  assert saved["micro"] == pytest.approx(saved["dots"] / 4, rel=0.02)


@pytest.mark.slow
def test_the_loss_is_planned_in_the_form_that_will_run(root):
  assert of(root, "batch=4096", devices=1).loss == "plain"
  assert of(root, "batch=32768", devices=1).loss == "tiled"
  assert of(root, "batch=32768", devices=8).loss == "ring"
  assert of(root, "batch=32768", "loss_implementation=plain", devices=8).bytes["loss"] == 2 * 4 * 32_768**2 // 8


@pytest.mark.slow
@pytest.mark.parametrize(("combine", "steps"), [("accumulate", 1), ("round_robin", 2), ("merge", 1)])
def test_streams_count_as_they_are_combined(root, combine, steps):
  """The mean over a period of what the real step is traced to; each of them differentiates 128 pairs at once."""
  parsed = recipes.parse(config.load(f"{root}/configs/contrastive/clip_two_sets.py:combine={combine}"))
  found = plan.plan(parsed, 1)
  assert found.flops == pytest.approx(np.mean([metrics.flops(trace(parsed, i).jaxpr) for i in range(steps)]), rel=0.02)
  alone = plan.plan(config.load(f"{root}/configs/contrastive/clip_two_sets.py:sets=photos"), 1)
  assert found.bytes == alone.bytes
  assert found.bytes["loss"] == 2 * 4 * 128**2
  assert found.flops == pytest.approx(alone.flops * (2 if combine == "accumulate" else 1))


@pytest.mark.slow
def test_a_lazy_stream_counts_as_often_as_it_is_due(root):
  flops = lambda every: (
    plan.plan(
      config.load(f"{root}/configs/contrastive/clip_two_sets.py:smoke", [f"streams.emoji.every={every}", "steps=8"]), 1
    ).flops
  )
  assert flops(4) == pytest.approx(5 / 8 * flops(1))


@pytest.mark.slow
def test_streams_that_cannot_be_merged_have_no_plan(root):
  load = lambda *overrides: config.load(f"{root}/configs/contrastive/clip_two_sets.py:smoke,combine=merge", overrides)
  assert plan.plan(load(), 1).flops > 0
  with pytest.raises(ValueError, match="weight and micro must agree"):
    plan.plan(load("streams.photos.micro=2"), 1)


@pytest.mark.slow
def test_lazy_phases_and_turns_count_as_often_as_they_are_due(root):
  def work(every=1, combine="accumulate"):
    overrides = [f"modalities.depth.every={every}", f"combine={combine}", "steps=8"]
    return plan.plan(config.load(f"{root}/configs/contrastive/imagebind_emoji.py:smoke", overrides), 1)

  always, half, quarter = work(1), work(2), work(4)
  assert always.flops > half.flops > quarter.flops
  assert always.flops - half.flops == pytest.approx(2 * (half.flops - quarter.flops))
  assert always.bytes == half.bytes == quarter.bytes
  assert work(combine="round_robin").flops == pytest.approx(always.flops / 2)


@pytest.mark.slow
def test_only_embeddings_are_made_again_for_micro_batches(root):
  clip = lambda micro: of(root, "batch=64", f"streams.train.micro={micro}", devices=1).flops
  assert clip(2) == pytest.approx(4 / 3 * clip(1), rel=1e-3)
  load = lambda micro: config.load(
    f"{root}/configs/contrastive/supervised_r50.py:smoke", [f"streams.train.micro={micro}"]
  )
  assert plan.plan(load(2), 1).flops == pytest.approx(plan.plan(load(1), 1).flops, rel=1e-3)


@pytest.mark.slow
def test_more_fsdp_means_less_state(root):
  whole, parts = of(root), of(root, "", "mesh.fsdp=8")
  for name in ("parameters", "optimiser", "gradients"):
    assert parts.bytes[name] == pytest.approx(whole.bytes[name] / 8, rel=0.02)


@pytest.mark.slow
def test_what_cannot_fit_is_refused(root):
  with pytest.raises(
    ValueError, match=r"on each v5e, which has 16 GiB .* the largest part is activations with .*micro"
  ):
    of(root, "variant=ViT-bigG-14", devices=8, accelerator="v5e")
  with pytest.raises(ValueError, match="the largest part is optimiser with .*mesh.fsdp"):
    of(root, "variant=ViT-bigG-14,batch=8", devices=8, accelerator="v5e")
  with pytest.raises(ValueError, match="unknown accelerator 'h10'; did you mean 'h100'"):
    of(root, accelerator="h10")
  with pytest.raises(ValueError, match=r"fsdp"):
    of(root, "", "mesh.fsdp=7")


def test_what_the_trainer_refuses_has_no_plan(smoke):
  for devices in (0, -1):
    with pytest.raises(ValueError, match=f"^devices = {devices}; legal: 1 or more"):
      plan.plan(smoke(), devices)
  wrong = r"config.streams.train.batch = 8 does not divide over data \* fsdp = {0} \* 1 = {0} of the mesh"
  for devices in (3, 1024):
    with pytest.raises(ValueError, match=wrong.format(devices)):
      plan.plan(smoke("streams.train.batch=8"), devices)
  with pytest.raises(ValueError, match="config.streams.train.batch = 8 in 3 micro-batches does not divide"):
    plan.plan(smoke("streams.train.batch=8", "streams.train.micro=3"), 1)


def test_simclr_reads_two_crops_where_the_host_makes_them(root):
  for crops, fields in (("device", {"image", "label"}), ("host", {"image", "image_other", "label"})):
    parsed = recipes.parse(config.load(f"{root}/configs/contrastive/simclr_r50.py:crops={crops}"))
    given = plan.examples(parsed, recipes.build(parsed), 4)
    assert set(given) == fields
    assert fields <= {*parsed.streams["train"].transforms[-1]}
    assert given["image"].shape == (4, 224, 224, 3)


CONTRASTIVE = sorted(path.stem for path in ROOT.glob("configs/contrastive/*.py"))
MODELS = [name for name in dual_encoder.VARIANTS if name not in ("test", "small")]
PUBLISHED = {
  **{f"{'siglip' if 'SigLIP' in name else 'clip'}:variant={name}": 256 for name in MODELS},
  **{f"align:variant={name}": 1024 for name in ("B7", "L2")},
  **{f"imagebind:modality={name}": 64 for name in ("audio", "depth", "thermal", "imu")},
}
"""Arguments of a config to the devices that it is planned on."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTRASTIVE)
def test_smoke_variants_have_plans(root, name):
  found = plan.plan(config.load(f"{root}/configs/contrastive/{name}.py:smoke"), 1)
  assert found.bytes.keys() >= {"parameters", "optimiser", "gradients", "activations"}
  assert found.flops > 0


@pytest.mark.slow
@pytest.mark.parametrize(
  ("spec", "devices"), [*PUBLISHED.items(), ("lit", 8), ("lit_flickr8k", 1), ("simclr_r50", 64)]
)
def test_published_settings_have_plans_and_lower(root, spec, devices):
  """At their own size and batch; the step is lowered for eight devices, and nothing is allocated."""
  name, _, arguments = spec.partition(":")
  raw = config.load(f"{root}/configs/contrastive/{name}.py:{arguments}")
  found = plan.plan(raw, devices)
  assert found.bytes.keys() >= {"parameters", "optimiser", "gradients", "activations", "loss"}
  assert found.flops > 0
  lowered = lower(recipes.parse(raw))
  assert lowered.out_info[0].step.shape == ()
  loss = next(value for metric, value in lowered.out_info[1].items() if metric.endswith("/loss"))
  assert loss.shape == ()


def lower(parsed):
  """The step of a parsed config, lowered for eight devices."""
  mesh = parallel.make(parallel.mesh.Mesh(data=-1, fsdp=2))
  with parallel.use(mesh):
    return trace(parsed, mesh=mesh).lower()


def trace(parsed, step=0, mesh=None):
  """The program of a step of a parsed config, traced from shapes alone, which lie on the mesh as in a run."""
  recipe = recipes.build(parsed)
  batches = {n: plan.examples(parsed, recipe, s.batch, n) for n, s in parsed.streams.items()}
  layout = states.Layout(recipe, next(iter(batches.values())))
  rate = schedules.build(parsed.schedule, parsed.steps)
  optimisers = {
    slot: Optimiser(parsed.optim, rate, layout.params, parsed.clip, recipe.slots[slot].rates, cut)
    for slot, cut in layout.splits.items()
  }
  make = lambda rng, batch: states.initialise(recipe, layout, optimisers, rng, batch, ema=parsed.ema is not None)
  state, where = jax.eval_shape(make, jax.random.key(0), next(iter(batches.values()))), None
  if mesh is not None:
    lay = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    where = states.shardings(state, layout, mesh, parallel.DEFAULT)
    state = jax.tree.map(lay, state, where)
    batches = jax.tree.map(lambda x: lay(x, parallel.batch_sharding(mesh)), batches)
  shares = {n: s.share for n, s in parsed.streams.items()}
  run = Step(recipe, layout, optimisers, shares, ema=parsed.ema, shardings=where)
  return run.jitted.trace(state, batches, due=due_at(recipe, step, parsed.combine))


@pytest.mark.slow
def test_the_program_prints_a_table_or_json(root):
  command = [sys.executable, "launch/plan.py", "--config=configs/contrastive/clip.py", "--devices=256"]
  run = lambda *more: subprocess.run([*command, *more], cwd=root, capture_output=True, text=True, check=True).stdout
  assert "parameters        151,277,313" in run("--accelerator=h100")
  assert json.loads(run("--json"))["mesh"] == {"data": 256, "fsdp": 1, "tensor": 1}


@pytest.mark.slow
def test_the_largest_flamingo_fits_sixteen_ways_of_tensor_and_fsdp(root):
  """Frozen weights are there once, and copies of them are no activations. The paper's chips do not fit the batches."""
  found = plan.plan(config.load(f"{root}/configs/flamingo/flamingo.py:size=80b", []), 1024, accelerator="v4")
  assert found.mesh == {"data": 4, "fsdp": 16, "tensor": 16}
  assert found.parameters == pytest.approx(80e9, rel=0.01)
  assert found.total < 0.3 * plan.ACCELERATORS["v4"].memory
  assert found.bytes["parameters"] == pytest.approx((70e9 * 2 + 10e9 * 4) / 256, rel=0.1)
