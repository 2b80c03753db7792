"""timm's and torchvision's ResNets with the same weights: features, logits, training mode, keys both ways."""

import jax
import numpy as np
import pytest

from vljax import tree
from vljax.interop import torchvision
from vljax.layers import batch_norm
from vljax.models import fitting, resnet

pytestmark = pytest.mark.parity


def drawn(torch, model):
  """Their model with random norms and statistics: no two alike, variances about 1."""
  torch.manual_seed(0)
  with torch.no_grad():
    for name, leaf in model.state_dict().items():
      if name.endswith(("running_var", "weight")) and leaf.ndim == 1:
        leaf.copy_(torch.rand_like(leaf) + 0.5)
      elif leaf.ndim == 1:
        leaf.copy_(0.1 * torch.randn_like(leaf))
  return model.eval()


@pytest.fixture(scope="module")
def image():
  return np.random.default_rng(0).normal(size=(3, 64, 64, 3)).astype(np.float32)


def both(torch, model, image, tmp_path):
  """(their output, ours) at evaluation, through a file."""
  torch.save(model.state_dict(), tmp_path / "net.pth")
  config, weights = torchvision.load(tmp_path / "net.pth")
  ours = jax.jit(resnet.build(**config).apply)(batch_norm.variables(weights), image)
  with torch.no_grad():
    return model(torch.tensor(image).permute(0, 3, 1, 2)).numpy(), np.asarray(ours), config, weights


@pytest.mark.parametrize(("name", "classes"), [("resnet18", 7), ("resnet50", 0)])
def test_timm(torch, name, classes, image, tmp_path):
  timm = pytest.importorskip("timm")
  model = drawn(torch, timm.create_model(name, num_classes=classes))
  theirs, ours, config, weights = both(torch, model, image, tmp_path)
  np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
  named = resnet.build(name, num_classes=classes or None)
  assert fitting.abstract(named) == fitting.abstract(resnet.build(**config))
  if name == "resnet50":
    assert tree.count(fitting.abstract(named)) == 23_508_032
  again = timm.create_model(name, num_classes=classes)
  again.load_state_dict({k: torch.tensor(v) for k, v in torchvision.to_state(weights).items()}, strict=True)


def test_torchvision_in_training_normalizes_by_the_batch_and_has_the_same_gradients(torch, image, tmp_path):
  models = pytest.importorskip("torchvision").models
  model = drawn(torch, models.resnet18(num_classes=5))
  theirs, ours, config, weights = both(torch, model, image, tmp_path)
  np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
  network, start = resnet.build(**config), batch_norm.variables(weights)

  @jax.jit
  def slope(params):
    def loss(params):
      logits, new = network.apply({**start, "params": params}, image, train=True, mutable="batch_stats")
      return (logits**2).mean(), new["batch_stats"]

    return jax.value_and_grad(loss, has_aux=True)(params)

  (value, new), gradients = slope(start["params"])
  model.train()
  expected = (model(torch.tensor(image).permute(0, 3, 1, 2)) ** 2).mean()
  expected.backward()
  np.testing.assert_allclose(float(value), expected.item(), rtol=1e-4)
  means = torchvision.to_state({"batch_stats": new})
  for key, leaf in model.state_dict().items():
    if key.endswith("running_mean"):
      np.testing.assert_allclose(means[key], leaf.numpy(), rtol=1e-3, atol=1e-4, err_msg=key)
  found = torchvision.to_state(gradients)
  for key, leaf in model.named_parameters():
    # By length: an input within rounding of a ReLU's corner changes a channel's few gradients by percents.
    difference = np.linalg.norm(found[key] - leaf.grad.numpy())
    assert difference <= 1e-2 * float(leaf.grad.norm()), f"{key}: {difference} of {float(leaf.grad.norm())}"
