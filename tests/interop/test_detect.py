"""Which format a folder or file is of."""

import pytest

from vljax import hub, interop
from vljax.interop import torch_writer


def test_folders_and_files(make, tmp_path):
  for format, name in (("hf", "hf"), ("open_clip", "oc"), ("openai", "x.pt")):
    interop.save(tmp_path / name, make().imported, format)
    assert interop.detect(tmp_path / name) == format
  assert interop.detect(tmp_path / "hf/model.safetensors") == "hf"
  assert interop.detect(tmp_path / "oc/open_clip_model.safetensors") == "open_clip"


@pytest.mark.slow
def test_a_folder_with_both_configs_is_the_clip_models(make, tmp_path):
  """As LAION publishes: config.json and open_clip_config.json side by side, each with its weights."""
  for format in ("open_clip", "hf"):
    interop.save(tmp_path, make().imported, format)
  assert interop.detect(tmp_path) == "hf"
  make().assert_equal(interop.load(tmp_path))
  make().assert_equal(interop.load(tmp_path, format="open_clip"))


def test_the_config_of_something_else(make, tmp_path):
  interop.save(tmp_path, make().imported, "open_clip")
  (tmp_path / "config.json").write_text('{"architecture": "vit_base_patch32_clip_224"}')
  assert interop.detect(tmp_path) == "open_clip"


def test_nothing_known(tmp_path):
  (tmp_path / "notes.txt").write_text("x")
  with pytest.raises(ValueError, match="is no known checkpoint") as raised:
    interop.load(tmp_path)
  assert str(raised.value) == (
    f"{tmp_path} is no known checkpoint: it holds neither the config.json of a CLIPModel or SiglipModel nor "
    "open_clip_config.json; found notes.txt"
  )


@pytest.mark.parametrize("load", [interop.load, interop.load_tower, hub.load])
def test_a_damaged_config(make, tmp_path, load):
  interop.save(tmp_path, make().imported, "hf")
  (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text()[:100])
  with pytest.raises(ValueError, match=f"^{tmp_path}/config.json is damaged: it is not a JSON object: "):
    load(tmp_path)


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"none\.pt does not exist"):
    interop.load(tmp_path / "none.pt")


def test_unknown_format(make, tmp_path):
  with pytest.raises(ValueError, match="unknown checkpoint format 'hff'; did you mean 'hf'"):
    interop.save(tmp_path / "x", make().imported, "hff")


def test_other_weights(make, tmp_path):
  torch_writer.write(tmp_path / "x.pt", {"fc.weight": make().imported.params["image"]["cls"]})
  with pytest.raises(ValueError, match=r"x.pt: the key 'visual.conv1.weight' is missing"):
    interop.load(tmp_path / "x.pt")


@pytest.mark.slow
def test_import_starts_nothing(root):
  import subprocess
  import sys

  program = (
    "import sys, vljax.interop, jax._src.xla_bridge as b; "
    "assert not b._backends; assert not {'torch', 'transformers', 'open_clip', 'huggingface_hub'} & {*sys.modules}"
  )
  subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
