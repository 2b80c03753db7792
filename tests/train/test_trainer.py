import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import config, recipes, tree
from vljax.checkpoint import Manager
from vljax.data import tokenizers
from vljax.train import trainer


@pytest.mark.slow
def test_a_state_is_made_where_it_lies(make_trainer):
  trainer = make_trainer("--config.mesh.fsdp=2", "--config.mesh.tensor=2")
  with trainer.use():
    state = trainer.fresh()
  assert jax.tree.map(lambda x: x.sharding, state) == trainer.shardings
  shapes = lambda t: jax.tree.map(lambda x: (x.shape, x.dtype), t)
  assert shapes(state) == shapes(trainer.abstract()) == shapes(trainer.target())
  up = state.params["image"]["blocks"]["mlp"]["up"]["kernel"]
  assert up.addressable_shards[0].data.size == up.size // 4
  assert state.opt["clip"].mu["image"]["blocks"]["mlp"]["up"]["kernel"].sharding == up.sharding


def test_loaders_begin_after_what_was_consumed(make_trainer):
  trainer = make_trainer()
  batch = trainer.config.streams["train"].batch
  with trainer.loaders({})["train"] as all_of_them, trainer.loaders({"train": 2 * batch})["train"] as rest:
    batches = [next(all_of_them) for _ in range(3)]
    np.testing.assert_array_equal(batches[2]["image"], next(rest)["image"])
  assert rest.consumed == 3 * batch


def test_a_batch_is_put_over_data_and_fsdp(make_trainer):
  trainer = make_trainer("--config.mesh.fsdp=2", "--config.mesh.tensor=2")
  placed = trainer.put({"x": np.arange(8.0)})["x"]
  assert {shard.data.shape for shard in placed.addressable_shards} == {(2,)}


def test_frozen_towers_have_no_slots(make_trainer):
  trainer = make_trainer("--config.trains=text.*|log_scale")
  slots = tree.flatten(trainer.abstract().opt["clip"].mu)
  assert {name.split("/")[0] for name in slots} == {"text", "text_head", "log_scale"}


@pytest.fixture
def elsewhere(monkeypatch, make_trainer):
  """`make_trainer` of a run of a frozen image tower as a backend of that name lays it out."""

  def make(backend, *overrides):
    with monkeypatch.context() as patch:
      patch.setattr(jax, "default_backend", lambda: backend)
      plain = [f"--config.{tower}.attention=xla" for tower in ("image", "text")]
      made = make_trainer("--config.trains=text.*|log_scale", *plain, *overrides)
      return made, made.target()

  return make


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["gpu", "tpu", "cpu"])
@pytest.mark.parametrize(("image", "text"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_frozen_towers_take_the_dtype_that_they_compute_in(elsewhere, backend, image, text):
  _, target = elsewhere(backend, f"--config.image.dtype={image}", f"--config.text.dtype={text}")
  dtypes = {name: str(leaf.dtype) for name, leaf in tree.flatten(target.params).items()}
  frozen = "float32" if backend == "cpu" else image
  assert dtypes == {name: frozen if name.startswith("image") else "float32" for name in dtypes}


@pytest.mark.slow
@pytest.mark.parametrize("backends", [("cpu", "gpu"), ("gpu", "cpu")])
def test_a_run_goes_on_elsewhere_with_its_frozen_leaves_as_they_are(elsewhere, tmp_path, backends):
  (first, begun), (second, wanted) = (elsewhere(name, "--config.image.dtype=bfloat16") for name in backends)
  ones = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), begun.replace(rng=None))
  state = ones.replace(rng=jax.random.key(0))
  with Manager(tmp_path) as manager:
    manager.save_frozen({"params": first.layout.frozen(state.params)})
    manager.save(1, state)
    restored, *_ = manager.restore(wanted)
  dtypes = lambda state: {name: leaf.dtype for name, leaf in tree.flatten(state.params).items()}
  assert dtypes(restored) == dtypes(begun) != dtypes(wanted)
  assert jax.tree.map(lambda x: x.sharding, restored) == second.shardings
  batch = {name: jnp.zeros((8, *x.shape[1:]), x.dtype) for name, x in second.example.items()}
  with second.use():
    after, _ = second.step.jitted.trace(restored, {"train": batch}, due=second.due(1)).out_info
  assert dtypes(after) == dtypes(begun)


@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("optim=[('image/.*', {})]", "no group of config.optim matches 'image_head/kernel'; its regexes: image/.*"),
    (
      "optim=[('.*', {}), ('.*bias', {})]",
      "config.optim: the regex '.*bias' is the first match of no trained parameter",
    ),
    ("schedule.warmup=9", "config.schedule.warmup = 9 is more than config.steps = 2"),
    ("streams.train.micro=3", "config.streams.train.batch = 8 in 3 micro-batches does not divide over data * fsdp = "),
    ("workers=2", "cache=True would keep every example in each of workers = 2 processes; legal: workers = 0"),
    ("streams.train.source=synthetic:pairs?n=4&size=16", "source 'synthetic:pairs' has 4 examples, fewer than one "),
  ],
)
def test_what_cannot_run_is_refused_before_the_first_step(make_trainer, override, message):
  with pytest.raises(ValueError, match="^" + re.escape(message)):
    make_trainer(f"--config.{override}").loaders({})


@pytest.mark.parametrize("lacking", ["emoji", "photos"])
def test_a_stream_that_lacks_a_field_is_named_wherever_it_stands(root, smoke_workdir, lacking):
  raw = config.load(f"{root}/configs/contrastive/clip_two_sets.py:smoke")
  with raw.unlocked():
    raw.streams[lacking].transforms = [*raw.streams[lacking].transforms[:-1], ("keep", "image")]
  parsed, tokenizer = recipes.parse(raw), tokenizers.load(smoke_workdir / "tokenizer")
  message = f"^config.streams.{lacking}: the streams of clip must give .* no 'tokens' among image "
  with pytest.raises(ValueError, match=message):
    trainer.Trainer(recipes.build(parsed), parsed, tokenizer)
