import re

import jax
import numpy as np
import pytest

from vljax import tree


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
  with trainer.loaders({})["train"] as all_of_them, trainer.loaders({"train": 2})["train"] as rest:
    batches = [next(all_of_them) for _ in range(3)]
    np.testing.assert_array_equal(batches[2]["image"], next(rest)["image"])
  assert rest.consumed == 3


def test_a_batch_is_put_over_data_and_fsdp(make_trainer):
  trainer = make_trainer("--config.mesh.fsdp=2", "--config.mesh.tensor=2")
  placed = trainer.put({"x": np.arange(8.0)})["x"]
  assert {shard.data.shape for shard in placed.addressable_shards} == {(2,)}


def test_frozen_towers_have_no_slots(make_trainer):
  trainer = make_trainer("--config.trains=text.*|log_scale")
  slots = tree.flatten(trainer.abstract().opt["clip"].mu)
  assert {name.split("/")[0] for name in slots} == {"text", "text_head", "log_scale"}


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
