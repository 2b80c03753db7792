"""SigLIP's npz files, blocks one by one and stacked; tests/parity compares with open_clip's reader."""

import jax
import numpy as np
import pytest

from vljax import convert, interop, tree
from vljax.interop import big_vision, siglip
from vljax.interop.imported import Imported
from vljax.models import dual_encoder, fitting

TOWER = dict(activation="gelu_tanh", epsilon=1e-6, mlp=40)


@pytest.fixture(scope="module")
def imported():
  config = dict(
    image=dict(variant="test", image_size=24, patch=8, pool="map", norm_pre=False, patch_bias=True, **TOWER),
    text=dict(variant="test", depth=3, pool="last", causal=False, **TOWER),
    dim=32,
    **siglip.FIELDS,
  )
  rng = np.random.default_rng(0)
  shapes = fitting.abstract(dual_encoder.build_from(**config))
  params = jax.tree.map(lambda x: np.asarray(0.3 * rng.normal(size=x.shape), np.float32), shapes)
  half = (0.5,) * 3
  return Imported(
    config, params, dict(size=24, mean=half, std=half, interpolation="bilinear", resize_mode="squash"), {}
  )


@pytest.fixture(scope="module")
def file(imported, tmp_path_factory):
  path = tmp_path_factory.mktemp("npz") / "siglip.npz"
  interop.save(path, imported, "big_vision")
  return path


def arrays(file):
  with np.load(file, allow_pickle=False) as archive:
    return dict(archive)


@pytest.mark.slow
def test_there_and_back(imported, file):
  assert interop.detect(file) == "big_vision"
  found = interop.load(file)
  wanted = tree.flatten(imported.params)
  assert tree.flatten(found.params).keys() == wanted.keys()
  for name, array in tree.flatten(found.params).items():
    np.testing.assert_array_equal(array, wanted[name], err_msg=name)
  assert found.preprocess == imported.preprocess
  assert convert.compare(imported, found) == 0


def test_names_are_big_visions(file):
  names = set(arrays(file))
  assert {
    "params/img/embedding/kernel", "params/img/Transformer/encoderblock_1/MultiHeadDotProductAttention_0/query/kernel",
    "params/img/MAPHead_0/probe", "params/txt/Encoder_0/encoderblock_2/MlpBlock_0/Dense_1/bias",
    "params/txt/head/bias", "params/t", "params/b",
  } <= names  # fmt: skip


def test_stacked_blocks_and_an_optimiser(file, tmp_path):
  content = {name.removeprefix("params/"): x for name, x in arrays(file).items()}
  for prefix, depth in (("img/Transformer", 2), ("txt/Encoder_0", 3)):
    for name in [n for n in content if n.startswith(f"{prefix}/encoderblock_0/")]:
      inner = name.removeprefix(f"{prefix}/encoderblock_0/")
      layers = [content.pop(f"{prefix}/encoderblock_{i}/{inner}") for i in range(depth)]
      content[f"{prefix}/encoderblock/{inner}"] = np.stack(layers)
  np.savez(tmp_path / "scanned.npz", **{f"params/{k}": v for k, v in content.items()}, **{"opt/0": np.zeros(2)})
  a, b = interop.load(file), interop.load(tmp_path / "scanned.npz")
  jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
  assert (a.config, b.model().text.depth) == (b.config, 3)


def test_what_is_refused(file, imported, tmp_path):
  content = arrays(file)
  np.savez(tmp_path / "a.npz", **{k: v for k, v in content.items() if not k.endswith("Dense_0/bias")})
  with pytest.raises(ValueError, match="the key 'img/Transformer/encoderblock_0/MlpBlock_0/Dense_0/bias' is missing"):
    interop.load(tmp_path / "a.npz")
  np.savez(tmp_path / "b.npz", t=np.array([{}], dtype=object))
  with pytest.raises(ValueError, match="no npz archive of plain arrays: Object arrays cannot be loaded"):
    interop.load(tmp_path / "b.npz")
  (tmp_path / "c.npz").write_bytes(b"nothing")
  with pytest.raises(ValueError, match="c.npz is no npz archive of plain arrays"):
    big_vision.load(tmp_path / "c.npz")
  other = dict(imported.config, text={**imported.config["text"], "causal": True})
  with pytest.raises(ValueError, match=r"cannot hold text.causal = True \(its readers assume False\)"):
    big_vision.save(tmp_path / "d.npz", Imported(other, imported.params, imported.preprocess, {}))
