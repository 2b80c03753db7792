"""What runs start from: workdirs of ours, and files of others."""

import flax
import jax
import numpy as np
import pytest

from vljax import tree
from vljax.checkpoint import load_params, partial
from vljax.interop import torchvision, weights
from vljax.models import resnet
from vljax.models.classifier import Classifier


def test_a_classifier_starts_from_a_resnet_with_torchvisions_keys(tmp_path):
  fields = dict(blocks=(1,), bottleneck=False, stem="cifar", image_size=16)
  model = resnet.build(num_classes=2, **fields)
  made = flax.core.meta.unbox(jax.jit(model.init)(jax.random.key(0), *model.inputs()))
  torchvision.save(tmp_path / "net.pth", {**made["params"], "batch_stats": made["batch_stats"]})
  target = Classifier(resnet.build(**fields), 5)
  variables = flax.core.meta.unbox(jax.jit(target.init)(jax.random.key(1), *target.inputs()))
  start = {**variables["params"], "batch_stats": variables["batch_stats"]}
  file = str(tmp_path / "net.pth")
  entries = [
    (file, r"((?!classifier|batch_stats).*)", "backbone"),
    (file, r"batch_stats/(.*)", "batch_stats/backbone"),
  ]
  found, _ = partial.initialize(start, entries, weights.load)
  for name, leaf in tree.flatten(made["params"]).items():
    if not name.startswith("classifier/"):
      np.testing.assert_array_equal(tree.flatten(found)[f"backbone/{name}"], leaf)
  np.testing.assert_array_equal(found["classifier"]["kernel"], start["classifier"]["kernel"])


def test_a_workdir_gives_its_newest_weights(smoke_workdir):
  found, expected = weights.load(smoke_workdir), load_params(smoke_workdir)[0]
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match="does not exist; a vljax workdir is expected"):
    weights.load(tmp_path / "nothing")
