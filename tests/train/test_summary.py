import re

import jax
import jax.numpy as jnp
import pytest

from vljax import parallel, tree
from vljax.train import summary


@pytest.mark.slow
def test_first_lines_of_a_run(make_trainer, tmp_path):
  trainer = make_trainer("--config.mesh.fsdp=2", "--config.trains=text.*|log_scale", "--config.schedule.lr=0.1")
  with trainer.use():
    state = trainer.fresh()
  text = "\n".join(summary.lines(trainer, state, tmp_path, "fresh"))
  total, live = tree.count(state.params), tree.count(trainer.layout.moving(state.params))
  for line in (
    r"devices     8 x cpu on 1 hosts; mesh data 4, fsdp 2, tensor 1",
    rf"parameters  {total:,}, trained {live:,}",
    r"  image/blocks +[\d,]+  trained 0",
    r"  text/blocks +[\d,]+",
    r"optimiser   clip: \.\*  adamw lr x1 wd 0\.2  \d+ leaves, [\d,]+",
    r"stream      train: synthetic:pairs \(train\), \d+ examples, batch 8 in 1 parts, weight 1",
    rf"checkpoints {tmp_path}/checkpoints, every 100 steps, the newest 2 kept",
    r"start       fresh",
  ):
    assert re.search(f"^{line}$", text, re.MULTILINE), f"{line}\n{text}"


def test_bytes_per_device():
  mesh = parallel.make(parallel.Mesh(data=4, fsdp=2))
  halved = jax.device_put(jnp.zeros((8, 4)), parallel.sharding(mesh, parallel.DEFAULT, ("embed", None), (8, 4)))
  whole = jax.device_put(jnp.zeros(4), parallel.sharding(mesh, parallel.DEFAULT, (None,), (4,)))
  assert summary.per_device({"a": halved, "b": whole, "key": jax.random.key(0)}) == (64 + 16, 128 + 16)
