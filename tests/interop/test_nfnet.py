"""NFNet weights under timm's keys and DeepMind's names; tests/parity compares the network with timm's."""

import functools
import pickle

import numpy as np
import pytest

from vljax import interop, tree
from vljax.checkpoint import partial
from vljax.interop import haiku_reader, nfnet, weights
from vljax.interop.tower import Tower
from vljax.models import fitting
from vljax.models import nfnet as models


@functools.cache
def shapes(**fields):
  return tree.flatten(fitting.abstract(models.build("test", **fields)))


@pytest.fixture(scope="module")
def tower():
  """make(family, **fields): a tower of random weights."""

  def make(family, **fields):
    config = {**dict(depths=(1, 3, 1, 2), num_classes=5), **nfnet.FAMILIES[family], **fields}
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=x.shape).astype(np.float32) for name, x in shapes(**config).items()}
    return Tower("image", {"tower": "nfnet", "variant": "test", **config}, {"image": tree.unflatten(params)})

  return make


ENDINGS = {"haiku": ".npz", "dm_nfnet": ".safetensors", "nfnet": ".pth"}


@pytest.mark.slow
@pytest.mark.parametrize("family", ENDINGS)
def test_round_trips_are_bit_equal(tower, family, tmp_path):
  made = tower(family, activation="silu")
  file = tmp_path / f"weights{ENDINGS[family]}"
  nfnet.save(file, made)
  read = nfnet.load(file, num_classes=5)
  ours, theirs = tree.flatten(made.weights), tree.flatten(read.weights)
  assert ours.keys() == theirs.keys()
  for name, array in ours.items():
    np.testing.assert_array_equal(theirs[name], array, err_msg=name)
  build = lambda t: models.build(**{k: v for k, v in t.config.items() if k != "tower"})
  wanted, found = build(made), build(read)
  same = ("depths", "widths", "stem", "width", "group_width", "se_ratio", "bottleneck", *nfnet.FAMILIES["nfnet"])
  assert {f: getattr(found, f) for f in same} == {f: getattr(wanted, f) for f in same}
  assert "silu" in read.notes[0]
  assert "classifier" not in nfnet.load(file).weights["image"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ENDINGS)
def test_runs_start_from_files(tower, family, tmp_path):
  made = tower(family, activation="silu", num_classes=None)
  file = tmp_path / f"weights{ENDINGS[family]}"
  nfnet.save(file, made)
  assert interop.load_tower(file).config["depths"] == (1, 3, 1, 2)
  start = {"vision": {name: np.zeros_like(x) for name, x in tree.flatten(made.weights["image"]).items()}}
  found, _ = partial.initialize(start, [(str(file), "image/(.*)", "vision")], weights.load)
  for name, array in tree.flatten(made.weights["image"]).items():
    np.testing.assert_array_equal(tree.flatten(found)[f"vision/{name}"], array, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["F1+", "test"])
def test_variants_show_in_the_shapes(name):
  found = tree.flatten(fitting.abstract(models.build(name)))
  flat = {key: np.broadcast_to(np.float32(0), x.shape) for key, x in found.items()}
  assert nfnet.infer(tree.unstack(tree.unflatten(flat))) == {"variant": name}


@pytest.mark.slow
def test_names_of_deepmind_number_all_blocks(tower):
  state = nfnet.to_state(tower("haiku"), haiku=True)
  shape = lambda key: state[f"NFNet/~/{key}"].shape
  assert shape("nf_block/~/conv_shortcut/w") == (1, 1, 128, 32)
  assert shape("nf_block_2/~/conv1b/w") == (3, 3, 8, 16)
  assert shape("nf_block_3/skip_gain") == ()
  assert shape("nf_block_6/~/squeeze_excite/~/linear_1/w") == (32, 128)
  assert shape("stem_conv3/gain") == (128,)
  assert shape("linear/b") == (5,)
  assert "NFNet/~/nf_block_3/~/conv_shortcut/w" not in state, "the third block of its stage"
  assert "NFNet/~/nf_block_4/~/conv_shortcut/w" in state
  modules = {key.rpartition("/")[0] for key in nfnet.to_state(tower("haiku", depths=(1, 2, 6, 3)), haiku=True)}
  assert len(modules) == 94, "as many modules as F0's published file has"


def test_keys_of_timm(tower):
  state = nfnet.to_state(tower("dm_nfnet"), haiku=False)
  assert state["stem.conv1.gain"].shape == (16, 1, 1, 1)
  assert state["stages.1.2.conv2.weight"].shape == (16, 8, 3, 3)
  assert state["stages.1.2.attn_last.fc1.weight"].shape == (16, 64, 1, 1)
  assert state["stages.1.2.skipinit_gain"].shape == ()
  assert state["head.fc.weight"].shape == (5, 192)
  assert not any("skipinit" in key for key in nfnet.to_state(tower("nfnet"), haiku=False))


def test_broken_state_dicts_are_named(tower):
  state = nfnet.to_state(tower("dm_nfnet"), haiku=False)
  read = lambda state, **options: nfnet.from_state(state, num_classes=5, where="here", **options)
  with pytest.raises(ValueError, match=r"here: the key 'stages.1.1.conv2b.gain' is missing"):
    read({k: v for k, v in state.items() if k != "stages.1.1.conv2b.gain"})
  with pytest.raises(ValueError, match=r"here: the key 'stages.1.1.conv9.weight' is unknown"):
    read({**state, "stages.1.1.conv9.weight": state["final_conv.weight"]})
  with pytest.raises(ValueError, match=r"here is no NFNet: its stages have \(1, 0, 1, 2\) blocks"):
    read({k: v for k, v in state.items() if not k.startswith("stages.1.")})
  with pytest.raises(ValueError, match="here is no NFNet: its stages have no blocks"):
    read({})
  with pytest.raises(ValueError, match="unknown family of NFNet weights 'dm'; "):
    read(state, family="dm")
  with pytest.raises(ValueError, match=r"unknown ending of a file of NFNet weights '.bin'"):
    nfnet.save("weights.bin", tower("dm_nfnet"))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickles_are_read_without_running_them(tmp_path, protocol):
  arrays = {"a/~/b": {"w": np.arange(6, dtype=">f4").reshape(2, 3), "f": np.asfortranarray(np.eye(2))}}
  arrays["c"] = {"skip_gain": np.array(3, np.float32), "scalar": np.float64(4)}
  (tmp_path / "x.npz").write_bytes(pickle.dumps(arrays, protocol=protocol))
  found = haiku_reader.state_dict(tmp_path / "x.npz")
  assert found.keys() == {"a/~/b/w", "a/~/b/f", "c/skip_gain", "c/scalar"}
  for name, array in found.items():
    module, _, parameter = name.rpartition("/")
    np.testing.assert_array_equal(array, arrays[module][parameter])


class Malice:
  def __reduce__(self):
    return print, ("ran",)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({"a": {"w": Malice()}}, "refused: the pickle names the class 'builtins.print'"),
    ({"a": {"w": np.array([{}], object)}}, "dtype 'O8'; legal: numbers"),
    ({"a": {"w": 3}}, "'a/w' is a int, not an array"),
    ([1], "it holds no dict of modules"),
  ],
)
def test_other_pickles_are_refused(tmp_path, capsys, content, message):
  (tmp_path / "x.npz").write_bytes(pickle.dumps(content, protocol=4))
  with pytest.raises(ValueError, match=message):
    haiku_reader.state_dict(tmp_path / "x.npz")
  assert capsys.readouterr().out == ""


def test_damaged_and_missing_files_are_named(tmp_path):
  data = pickle.dumps({"a": {"w": np.zeros(100, np.float32)}}, protocol=4)
  (tmp_path / "x.npz").write_bytes(data[:-50])
  with pytest.raises(ValueError, match=r"x\.npz: "):
    haiku_reader.state_dict(tmp_path / "x.npz")
  with pytest.raises(FileNotFoundError, match=r"y\.npz does not exist"):
    haiku_reader.state_dict(tmp_path / "y.npz")


def test_true_archives_are_read(tmp_path):
  np.savez(tmp_path / "x.npz", **{"NFNet/~/stem_conv0/w": np.ones((2, 2))})
  np.testing.assert_array_equal(haiku_reader.state_dict(tmp_path / "x.npz")["NFNet/~/stem_conv0/w"], np.ones((2, 2)))
