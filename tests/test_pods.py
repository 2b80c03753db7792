"""Steps of published sizes, compiled for as many devices as a pod has; nothing is allocated or run."""

import json
import os
import subprocess
import sys

import pytest

from vljax import config, plan

DEVICES = 256
COMPILE = """
import json, sys
import test_plan
from vljax import config, parallel, recipes

parsed = recipes.parse(config.load(sys.argv[1], sys.argv[2:]))
mesh = parallel.make(parsed.mesh)
with parallel.use(mesh):
  compiled = test_plan.trace(parsed, mesh=mesh).lower().compile()
sizes, text = compiled.memory_analysis(), compiled.as_text()
gathers = text.count(" all-gather(") + text.count(" all-gather-start(")
found = {"arguments": sizes.argument_size_in_bytes, "temporaries": sizes.temp_size_in_bytes, "gathers": gathers}
print(json.dumps(found))
"""


@pytest.mark.long
@pytest.mark.parametrize("variant", ["ViT-B-32", "ViT-bigG-14"])
def test_clip_compiles_for_a_pod(root, variant):
  """Each device is given the share of the state that the plan says, and of the batch; weights are gathered for use."""
  spec, over = f"configs/contrastive/clip.py:variant={variant}", ["mesh.fsdp=8"]
  environment = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
  }
  done = subprocess.run(
    [sys.executable, "-c", COMPILE, spec, *over], cwd=root, env=environment, capture_output=True, text=True, check=True
  )
  found = json.loads(done.stdout.splitlines()[-1])
  raw = config.load(str(root / spec), over)
  wanted = plan.plan(raw, DEVICES)
  assert wanted.mesh == {"data": 32, "fsdp": 8, "tensor": 1}
  batch = raw.streams.train.batch // DEVICES * (raw.image.get("image_size", 224) ** 2 * 3 + 77 * 4)
  state = wanted.bytes["parameters"] + wanted.bytes["optimiser"]
  assert found["arguments"] == pytest.approx(state + batch, rel=0.02)
  assert found["temporaries"] < 5 * wanted.total, "CPUs compute in float32 what the plan counts as bfloat16"
  assert found["gathers"] > 0
