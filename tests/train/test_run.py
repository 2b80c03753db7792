import math
import re

import pytest

from vljax import config
from vljax.train.run import Checkpoints, Run, Stream
from vljax.train.step import Share


def parse(**values):
  streams = dict(train=dict(source="synthetic:pairs", batch=8))
  return config.parse({"recipe": "clip", "steps": 10, "streams": streams, **values}, Run)


def test_defaults():
  run = parse()
  assert run.streams["train"].share == Share(1.0, 1)
  assert run.checkpoint == Checkpoints(every=1000, keep=3)
  assert run.optim[0][0] == ".*"


@pytest.mark.parametrize(
  ("values", "message"),
  [
    (dict(steps=0), "config.steps = 0; legal: 1 or more"),
    (dict(log_every=0), "config.log_every = 0; legal: 1 or more"),
    (dict(max_bad_steps=0), "config.max_bad_steps = 0; legal: 1 or more"),
    (dict(workers=-1), "config.workers = -1; legal: 0 or more"),
    (dict(streams={}), "config.streams names no stream"),
    (
      dict(streams=dict(a=dict(source="x", batch=8), b=dict(source="x", batch=8, every=0))),
      "config.streams.b.every = 0; legal: 1 or more",
    ),
    (
      dict(combine="merge", streams=dict(a=dict(source="x", batch=8), b=dict(source="x", batch=8, every=2))),
      "config.streams.b.every = 2; legal: 1, since combine = 'merge'",
    ),
    (
      dict(streams=dict(a=dict(source="x", batch=8, every=3))),
      "config.streams: no stream is in each step; every = {'a': 3}; legal: 1 for one of them",
    ),
    (
      dict(combine="merged"),
      "unknown value config.combine = 'merged'; did you mean 'merge'? legal: accumulate, merge, ",
    ),
    (
      dict(optim=[(".*", dict(rl=1.0))]),
      "unknown key 'config.optim[0][1].rl'; did you mean 'lr'? legal: agc, agc_eps, ",
    ),
    (dict(streams=dict(train=dict(batch=8))), "'config.streams.train.source' is missing; Stream needs it"),
    (dict(mesh=dict(data=-1, fsdp=-1)), "mesh data=-1 fsdp=-1 tensor=1: data and fsdp are -1; legal: at most one of "),
  ],
)
def test_values_that_cannot_be(values, message):
  with pytest.raises(ValueError, match="^" + re.escape(message)):
    parse(**values)


@pytest.mark.parametrize(
  ("key", "bad", "legal"),
  [
    ("clip", (0.0, -1.0), "above 0, or None"),
    ("streams.train.batch", (0, -8), "1 or more"),
    ("streams.train.micro", (0, -1), "1 or more"),
    ("streams.train.weight", (-0.5, math.inf), "finite, 0 or more"),
    ("streams.train.max_broken", (-0.1, 1.5), "0 to 1"),
    ("optim[1][1].lr", (-1.0, math.inf), "finite, 0 or more"),
    ("optim[1][1].wd", (-0.1, math.inf), "finite, 0 or more"),
    ("optim[1][1].b1", (-0.1, 1.0), "0 or more, below 1"),
    ("optim[1][1].b2", (-0.1, 1.0), "0 or more, below 1"),
    ("optim[1][1].eps", (0.0, math.inf), "finite, above 0"),
    ("optim[1][1].clip", (0.0, -1.0), "above 0, or None"),
    ("optim[1][1].agc", (0.0, -0.01), "above 0, or None"),
    ("optim[1][1].agc_eps", (0.0, math.inf), "finite, above 0"),
    ("optim[1][1].eta", (0.0, -0.001), "above 0, or None"),
    ("schedule.lr", (-1e-3, math.inf), "finite, 0 or more"),
    ("schedule.warmup", (-5,), "0 or more"),
    ("schedule.final", (-0.1, 1.1), "0 to 1"),
    ("schedule.decay", (-0.1, 2.0), "0 to 1"),
    ("schedule.timescale", (0,), "1 or more"),
    ("ema.halflife", (0.999, 0.0, -1.0, math.inf), "examples, finite, 1 or more; a decay of d per step of b "),
    ("ema.ramp", (0.0, -0.05), "above 0, or None"),
  ],
)
def test_numbers_that_would_reverse_or_stop_training(key, bad, legal):
  for value in bad if isinstance(bad[0], int) else (*bad, math.nan):
    with pytest.raises(ValueError, match="^" + re.escape(f"config.{key} = {value}; legal: {legal}")):
      parse(**holding(key, value))


def holding(key, value):
  """The section of a config whose key has this value."""
  section, _, name = key.partition(".")
  name = name.removeprefix("train.")
  return {
    "clip": dict(clip=value),
    "streams": dict(streams=dict(train={"source": "x", "batch": 8, name: value})),
    "optim[1][1]": dict(optim=[("head/.*", {}), (".*", {name: value})]),
    "schedule": dict(schedule={name: value}),
    "ema": dict(ema={"halflife": 1000.0, name: value}),
  }[section]


def test_numbers_at_the_ends_of_their_ranges():
  run = parse(
    optim=[(".*", dict(lr=0, wd=0, b1=0, b2=0, clip=None, agc=None, eta=None))],
    schedule=dict(name="wsd", lr=0, warmup=0, decay=1, final=1),
    ema=dict(halflife=1, ramp=None),
    streams=dict(train=dict(source="x", batch=1, weight=0, max_broken=1)),
    clip=None,
  )
  assert run.schedule.decay == run.ema.halflife == 1.0


def test_share_of_a_stream():
  assert Stream(source="x", batch=8, micro=4, weight=0.2, every=3).share == Share(0.2, 4, 3)
