"""Plans against the real, sharded state, and against what compilation says."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from vljax import config, plan


def device_bytes(tree) -> int:
  """Bytes of a sharded tree on its first device."""
  return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


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


def of(root, arguments="", *overrides, devices=64, **options):
  return plan.plan(config.load(f"{root}/configs/contrastive/clip.py:{arguments}", overrides), devices, **options)


def test_work_is_that_of_the_published_model(root):
  """open_clip's profile has 14.78 GFLOP (multiply and add) a pair of ViT-B/32 forward; backward takes twice that."""
  found = of(root, "batch=64", devices=1)
  remat = 1.0  # `dots` computes no product again
  assert found.flops / 64 == pytest.approx(3 * 14.78e9 * remat, rel=0.1)
  assert found.parameters == 151_277_313


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


def test_the_loss_is_planned_in_the_form_that_will_run(root):
  assert of(root, "batch=4096", devices=1).loss == "plain"
  assert of(root, "batch=32768", devices=1).loss == "tiled"
  assert of(root, "batch=32768", devices=8).loss == "ring"
  assert of(root, "batch=32768", "loss_implementation=plain", devices=8).bytes["loss"] == 2 * 4 * 32_768**2 // 8


def test_more_fsdp_means_less_state(root):
  whole, parts = of(root), of(root, "", "mesh.fsdp=8")
  for name in ("parameters", "optimiser", "gradients"):
    assert parts.bytes[name] == pytest.approx(whole.bytes[name] / 8, rel=0.02)


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


@pytest.mark.parametrize("name", ["simclr_r50", "siglip", "simclr_cifar"])
def test_other_configs_have_plans(root, name):
  found = plan.plan(config.load(f"{root}/configs/contrastive/{name}.py"), 64, "v5p")
  assert found.bytes["activations"] > 0
  assert found.seconds > 0


def test_the_program_prints_a_table_or_json(root):
  command = [sys.executable, "launch/plan.py", "--config=configs/contrastive/clip.py", "--devices=256"]
  run = lambda *more: subprocess.run([*command, *more], cwd=root, capture_output=True, text=True, check=True).stdout
  assert "parameters        151,277,313" in run("--accelerator=h100")
  assert json.loads(run("--json"))["mesh"] == {"data": 256, "fsdp": 1, "tensor": 1}
