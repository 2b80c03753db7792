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


def test_share_of_a_stream():
  assert Stream(source="x", batch=8, micro=4, weight=0.2, every=3).share == Share(0.2, 4, 3)
