import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vljax import parallel
from vljax.checkpoint import Manager, Metadata, load_params

META = Metadata({"recipe": "clip"}, {"tokenizer": {"kind": "clip_bpe", "length": 77}})


def state(value, ema=True):
  params = {"image": {"cls": jnp.full(8, value, jnp.bfloat16), "pos": jnp.full((16, 8), float(value))}}
  average = {"image": {"cls": None, "pos": params["image"]["pos"] / 2}}
  return {"params": params, "ema": average if ema else None, "opt": (params,), "rng": jax.random.key(0)}


@pytest.fixture
def workdir(tmp_path):
  with Manager(tmp_path, metadata=META) as manager:
    manager.save(1, state(1))
    manager.save(2, state(2))
  return tmp_path


def test_as_numpy(workdir):
  params, metadata = load_params(workdir)
  assert metadata == Metadata(META.config, META.meaning)
  assert isinstance(params["image"]["pos"], np.ndarray)
  assert params["image"]["cls"].dtype == jnp.bfloat16
  assert params["image"]["pos"][0, 0] == 1
  assert params["image"]["cls"][0] == 2
  assert load_params(workdir, which="params")[0]["image"]["pos"][0, 0] == 2
  assert load_params(str(workdir), step=1)[0]["image"]["pos"][0, 0] == 0.5


def test_onto_a_mesh(workdir):
  mesh = parallel.make()
  place = lambda name, x: NamedSharding(mesh, PartitionSpec("data") if name == "image/pos" else PartitionSpec())
  params, _ = load_params(workdir, place=place)
  assert params["image"]["pos"].addressable_shards[0].data.shape == (2, 8)
  with pytest.raises(ValueError, match=r"leaf 'image/cls' of shape \[8\] cannot be laid out as NamedSharding"):
    load_params(workdir, place=lambda name, x: NamedSharding(mesh, PartitionSpec(None, "data")))


def test_damage_is_walked_over_and_left_alone(workdir):
  (workdir / "checkpoints/2/index/metadata").unlink()
  assert load_params(workdir)[0]["image"]["cls"][0] == 1
  assert (workdir / "checkpoints/2").exists()
  with pytest.raises(ValueError, match=r"can be used: step 2: .*index/metadata cannot be read: FileNotFoundError"):
    load_params(workdir, step=2)


def test_no_ema(tmp_path):
  with Manager(tmp_path) as manager:
    manager.save(1, state(1, ema=False))
  assert load_params(tmp_path)[0]["image"]["pos"][0, 0] == 1
  with pytest.raises(ValueError, match="keeps no ema of its parameters; legal: which='params' or 'auto'"):
    load_params(tmp_path, which="ema")
  with pytest.raises(ValueError, match="unknown value which = 'emma'; did you mean 'ema'"):
    load_params(tmp_path, which="emma")


def test_unreadable_workdirs(tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere does not exist; a vljax workdir is expected"):
    load_params(tmp_path / "nowhere")
  (tmp_path / "file").write_text("")
  with pytest.raises(FileNotFoundError, match="file is a file; a vljax workdir"):
    load_params(tmp_path / "file")
  (tmp_path / "other").mkdir()
  with pytest.raises(FileNotFoundError, match=r"holds no metadata.json, so it is no vljax workdir; found nothing$"):
    load_params(tmp_path / "other")
  (tmp_path / "other/model.safetensors").write_text("")
  with pytest.raises(FileNotFoundError, match=r"found model.safetensors$"):
    load_params(tmp_path / "other")
  Manager(tmp_path / "new").close()
  with pytest.raises(FileNotFoundError, match=r"checkpoints holds no finished checkpoint; found nothing$"):
    load_params(tmp_path / "new")


def test_metadata_errors(workdir):
  file = workdir / "metadata.json"
  content = json.loads(file.read_text())
  file.write_text(json.dumps({**content, "layout": 99, "version": "9.9"}))
  with pytest.raises(ValueError, match=r"was written by vljax 9.9 with parameter layout 99; vljax .* reads layout 1"):
    load_params(workdir)
  with pytest.raises(ValueError, match="parameter layout 99"):
    Manager(workdir, metadata=META)
  del content["meaning"]
  file.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=re.escape("metadata.json lacks meaning; it was not written by vljax")):
    load_params(workdir)
  file.write_text('{"config": ')
  with pytest.raises(ValueError, match="metadata.json is not JSON"):
    load_params(workdir)
