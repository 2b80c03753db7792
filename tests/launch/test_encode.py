"""launch/encode.py in this process: all devices take part, and the features are those of one."""

import json
import runpy

import jax
import numpy as np
import pytest

from vljax import encode, hub

SOURCE = "synthetic:pairs?n=21&size=20"


@pytest.fixture(scope="module")
def main(root):
  return runpy.run_path(f"{root}/launch/encode.py")["main"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--fsdp=4"]], ids=str)
def test_all_devices_encode(main, smoke_workdir, tmp_path, capsys, monkeypatch, options):
  opened, load = [], hub.load
  monkeypatch.setattr(hub, "load", lambda *args, **more: opened.append(load(*args, **more)) or opened[-1])
  assert main([f"--model={smoke_workdir}", f"--source={SOURCE}", f"--to={tmp_path / 'many'}", *options]) == 0
  assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(opened[0].params)} == {jax.device_count()}
  header = json.loads(capsys.readouterr().out)
  assert header == json.loads(json.dumps(encode.write(load(smoke_workdir), SOURCE, tmp_path / "one")))
  many, one = (encode.read(tmp_path / name)[1] for name in ("many", "one"))
  for tower in ("image", "text"):
    np.testing.assert_allclose(many[tower], one[tower], atol=1e-5)


@pytest.mark.slow
def test_an_untrained_model_of_a_config(main, root, tmp_path):
  config = f"{root}/configs/contrastive/clip_quickstart.py:smoke"
  asked = [f"--model={config}", f"--source={SOURCE}", f"--to={tmp_path}", "--level=tower"]
  assert main(asked) == 0
  assert encode.read(tmp_path)[0]["level"] == "tower"


def test_devices_that_do_not_divide(main, smoke_workdir, tmp_path):
  with pytest.raises(ValueError, match="fsdp=3 tensor=1 needs a multiple of 3 devices; found 8"):
    main([f"--model={smoke_workdir}", f"--source={SOURCE}", f"--to={tmp_path}", "--fsdp=3"])
