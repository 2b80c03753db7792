"""The CLIP step on meshes of simulated devices, and a run of two real processes."""

import json
import os
import re

import jax
import numpy as np
import pytest

from vljax import parallel, tree
from vljax.checkpoint import load_params
from vljax.train import summary, writers

pytestmark = pytest.mark.slow

MESHES = {"1x1x1": 1, "8x1x1": 8, "4x2x1": 8, "2x2x2": 8}
"""Ways of data, fsdp and tensor, and the devices that they take."""
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
LOOP = ("--config.image.unroll=1", "--config.text.unroll=1")  # the stacks as accelerators run them
SETTINGS = ("--config.streams.train.batch=16", "--config.clip=None", *LOOP)


class Once:
  """One step on a mesh: what it started from, what it reported, where the state lay and what was compiled."""

  def __init__(self, trainer):
    with trainer.use():
      state = trainer.fresh()
      with trainer.loaders({})["train"] as loader:
        batches = {"train": trainer.put(next(loader))}
      due = trainer.due(0)
      self.before, self.bytes = jax.tree.map(np.asarray, state.params), summary.per_device(state)
      self.shards = {
        name: x.addressable_shards[0].data.nbytes / x.nbytes
        for name, x in tree.flatten((state.params, state.opt)).items()
      }
      program = trainer.step.compile(state, batches, due)
      state, metrics = program.run(state, batches)
    self.metrics = jax.tree.map(float, metrics)
    self.gradients = {name: np.asarray(mu) / (1 - 0.9) for name, mu in tree.flatten(state.opt["clip"].mu).items()}
    text = program.run.as_text()
    self.collectives = {name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES}


@pytest.fixture(scope="module")
def once(make_trainer):
  """A function (mesh as "2x2x2", overrides) -> its one step, made once."""
  made = {}

  def step(name, *overrides):
    if (name, overrides) not in made:
      ways = zip(("data", "fsdp", "tensor"), name.split("x"), strict=True)
      mesh = [f"--config.mesh.{axis}={n}" for axis, n in ways]
      made[name, overrides] = Once(make_trainer(*mesh, *SETTINGS, *overrides, devices=MESHES[name]))
    return made[name, overrides]

  return step


def assert_close(one, many):
  for name, gradient in one.gradients.items():
    np.testing.assert_allclose(gradient, many.gradients[name], atol=1e-5 * max(1, abs(gradient).max()), err_msg=name)
  for name in ("clip/train/loss", "clip/train/accuracy", "clip/grad_norm"):
    assert one.metrics[name] == pytest.approx(many.metrics[name], rel=1e-5), name


@pytest.mark.parametrize("name", [name for name in MESHES if name != "1x1x1"])
def test_loss_and_gradients_are_those_of_one_device(once, name):
  one, many = once("1x1x1"), once(name)
  jax.tree.map(np.testing.assert_array_equal, one.before, many.before)
  assert_close(one, many)
  still = {leaf for leaf, gradient in one.gradients.items() if abs(gradient).max() < 1e-6}
  assert still <= {f"{tower}/blocks/attention/key/bias" for tower in ("image", "text")}, "softmax ignores these alone"


def test_micro_batches_on_a_mesh_are_those_of_one_device(once):
  assert_close(once("1x1x1"), once("2x2x2", "--config.streams.train.micro=2"))


FRACTIONS = {
  r".*mlp/(up|down)/kernel|.*attention/\w+/kernel|text/token/embedding": (1 / 2, 1 / 4),
  r".*mlp/up/bias|.*attention/(query|key|value)/bias": (1, 1 / 2),
  r"\w+_head/kernel|\w+/pos|.*/cls|.*patch/kernel": (1 / 2, 1 / 2),
  r".*norm_\w+/(scale|bias)|.*(mlp/down|attention/out)/bias": (1 / 2, 1 / 2),
  r"log_scale": (1, 1),
}
"""Parameter names to their share of a device on 4x2x1 and on 2x2x2, by the default rules."""


def test_parameters_and_optimiser_slots_are_sharded(once):
  for place, name in enumerate(("4x2x1", "2x2x2")):
    shards = once(name).shards
    for regex, fractions in FRACTIONS.items():
      leaves = {n: share for n, share in shards.items() if re.fullmatch(rf"(0|1/clip/\w+)/({regex})", n)}
      assert len(leaves) >= 3, regex
      assert set(leaves.values()) == {fractions[place]}, f"{name} {regex}: {leaves}"
  known = "|".join(FRACTIONS)
  rest = [n for n in shards if not re.fullmatch(rf"(0|1/clip/\w+)/({known})|1/clip/count", n)]
  assert rest == [], "every leaf of the model stands in the table"


def test_bytes_on_a_device_shrink(once):
  whole = once("1x1x1").bytes
  assert whole[0] == whole[1]
  assert once("8x1x1").bytes == whole, "data parallel devices hold copies"
  assert 0.50 < once("4x2x1").bytes[0] / whole[0] < 0.51
  assert 0.25 < once("2x2x2").bytes[0] / whole[0] < 0.28
  assert once("2x2x2").bytes[1] == whole[1]


def test_collectives_of_the_compiled_step(once, root):
  """VLJAX_GOLDEN=1 writes the file anew: look at what changed before committing it."""
  file = root / "tests/golden/collectives.json"
  found = {name: once(name).collectives for name in MESHES}
  if os.environ.get("VLJAX_GOLDEN"):
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"jax": jax.__version__, "collectives": found}, indent=2) + "\n")
  golden = json.loads(file.read_text())
  assert not any(found["1x1x1"].values())
  if golden["jax"] != jax.__version__:
    pytest.skip(f"the golden file is of jax {golden['jax']}; this is {jax.__version__}")
  assert found == golden["collectives"]


def test_misspelt_logical_axes_raise(make_trainer):
  with pytest.raises(
    ValueError, match=r"^unknown logical axis 'embd' in config.rules; did you mean 'embed'\? legal: "
  ):
    make_trainer("--config.rules.embd=fsdp")
  with pytest.raises(ValueError, match=r"^unknown mesh axis 'fdsp' in config.rules.embed; did you mean 'fsdp'\? "):
    make_trainer("--config.rules.embed=fdsp")
  with pytest.raises(ValueError, match=r"^unknown logical axis 'mpl'; did you mean 'mlp'\? legal: "):
    parallel.sharding(parallel.make(), parallel.DEFAULT, ("embed", "mpl"), (8, 8))


def test_two_processes_are_one(start_training, tmp_path):
  arguments = [
    "--config=configs/contrastive/clip_quickstart.py:smoke",
    "--config.steps=3",
    "--config.mesh.fsdp=2",
    "--config.report.source=synthetic:pairs?n=16&size=16",
  ]
  one = start_training(*arguments, f"--workdir={tmp_path}/one", devices=4)
  assert one.wait(timeout=240) == 0, one.stderr.read()
  two = start_training(
    *arguments, f"--workdir={tmp_path}/two", before=["launch/local.py", "--processes=2", "--devices=2", "--"]
  )
  text, errors = two.communicate(timeout=240)
  assert two.returncode == 0, text + errors
  assert "4 x cpu on 2 hosts; mesh data 2, fsdp 2, tensor 1" in text
  assert text.count("report.html") == text.count("Next:") == 1, "the first process writes and says it"
  rows = [writers.read(tmp_path / name) for name in ("one", "two")]
  losses = [[row["clip/train/loss"] for row in found] for found in rows]
  np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
  assert len(losses[0]) == 3
  for metric in ("retrieval/image_to_text/R@1", "groups/top1"):
    assert rows[0][-1][metric] == pytest.approx(rows[1][-1][metric])
  params = [load_params(tmp_path / name)[0] for name in ("one", "two")]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *params)
