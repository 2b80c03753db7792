"""Two processes share the shards of a source, each with its own devices."""

import subprocess
import sys

import numpy as np
import pytest

from vljax import encode, hub

pytestmark = pytest.mark.slow

SOURCE = "synthetic:pairs?n=13&size=20"


def test_each_process_encodes_its_shards(smoke_workdir, root, tmp_path):
  options = [f"--model={smoke_workdir}", f"--source={SOURCE}", f"--to={tmp_path / 'many'}", "--shards=3", "--fsdp=2"]
  command = [sys.executable, root / "launch/local.py", "--processes=2", "--devices=4", "--", root / "launch/encode.py"]
  done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=200)
  assert done.returncode == 0, done.stdout[-3000:]
  encode.write(hub.load(smoke_workdir), SOURCE, tmp_path / "one")
  many, one = (encode.read(tmp_path / name)[1] for name in ("many", "one"))
  for tower in ("image", "text"):
    np.testing.assert_allclose(many[tower], one[tower], atol=1e-5)
