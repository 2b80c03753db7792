"""ResNets with torchvision's keys: names both ways, files, and what is refused."""

import flax
import jax
import numpy as np
import pytest

from vljax import tree
from vljax.interop import torchvision
from vljax.layers.batch_norm import STATISTICS
from vljax.models import resnet


@pytest.fixture(scope="module")
def weights():
  """A small bottleneck ResNet whose leaves all differ."""
  model = resnet.build(blocks=(1, 2), bottleneck=True, num_classes=3, image_size=32)
  shapes = flax.core.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), *model.inputs()))
  rng = np.random.default_rng(0)
  made = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), dict(shapes))
  return {**made["params"], STATISTICS: made[STATISTICS]}


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_files_come_back_as_they_were(weights, tmp_path, name):
  torchvision.save(tmp_path / name, weights)
  config, again = torchvision.load(tmp_path / name)
  assert config == dict(
    blocks=(1, 2), bottleneck=True, width_multiplier=1.0, stem="imagenet", image_size=224, num_classes=3
  )
  before, after = tree.flatten(weights), tree.flatten(again)
  assert before.keys() == after.keys()
  for key, leaf in before.items():
    np.testing.assert_array_equal(leaf, after[key], err_msg=key)


def test_keys_are_torchvisions(weights):
  state = torchvision.to_state(weights)
  assert {"conv1.weight", "bn1.running_var", "bn1.num_batches_tracked", "layer1.0.conv3.weight", "fc.bias"} <= set(
    state
  )
  assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.bias", "layer2.1.bn2.running_mean"} <= set(state)
  assert state["conv1.weight"].shape == (64, 3, 7, 7)
  assert state["fc.weight"].shape == (3, 512)


def test_keys_below_a_prefix_are_taken_alone(weights, tmp_path):
  state = {f"backbone.{key}": array for key, array in torchvision.to_state(weights).items()}
  torchvision.torch_writer.write(tmp_path / "run.pt", state | {"head.weight": np.zeros((2, 2), np.float32)})
  _, found = torchvision.load(tmp_path / "run.pt", prefix="backbone.")
  assert set(found) == set(weights)


def test_what_is_no_such_network_is_refused(weights, tmp_path):
  state = torchvision.to_state(weights)
  with pytest.raises(ValueError, match=r"the key 'layer1.0.se.fc1.weight' is none of a ResNet's"):
    torchvision.from_state(state | {"layer1.0.se.fc1.weight": np.zeros(1)}, "x")
  with pytest.raises(ValueError, match=r"x lack 1 of the model's parameters: group_1_1/conv_2/kernel"):
    torchvision.from_state({k: v for k, v in state.items() if k != "layer2.1.conv2.weight"}, "x")
  with pytest.raises(ValueError, match=r"running statistics: stem_norm_0"):
    torchvision.from_state({k: v for k, v in state.items() if not k.startswith("bn1.running")}, "x")
  with pytest.raises(ValueError, match="x: the key 'conv1.weight' is missing"):
    torchvision.from_state({"bn1.weight": np.zeros(1)}, "x")
  with pytest.raises(ValueError, match="no place for 'group_0_0/selective/mix/kernel'"):
    torchvision.to_state(tree.unflatten({"group_0_0/selective/mix/kernel": np.zeros(1)}))
  with pytest.raises(ValueError, match="ending of a file of torch's '.npz'"):
    torchvision.save(tmp_path / "net.npz", weights)
