"""timm's tf_efficientnets with the same random weights and statistics."""

import jax
import numpy as np
import pytest

from vljax.interop import efficientnet
from vljax.models import efficientnet as models

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(("name", "variant"), [("tf_efficientnet_lite0", "Lite0"), ("tf_efficientnet_b0", "B0")])
def test_logits(torch, name, variant):
  timm = pytest.importorskip("timm")
  torch.manual_seed(0)
  theirs = timm.create_model(name, pretrained=False).eval()
  with torch.no_grad():
    for norm in theirs.modules():
      if isinstance(norm, torch.nn.BatchNorm2d):
        norm.weight.uniform_(0.8, 1.6)
        norm.bias.normal_(0, 0.1)
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
  state = {key: value.numpy() for key, value in theirs.state_dict().items()}
  tower = efficientnet.from_state(state, num_classes=1000, where=name)
  assert tower.config["variant"] == variant
  ours = models.build(variant, num_classes=1000)
  image = np.random.default_rng(0).normal(size=(2, 66, 66, 3)).astype(np.float32)  # odd and even sides on the way
  with torch.no_grad():
    wanted = theirs(torch.tensor(image).permute(0, 3, 1, 2)).numpy()
  found = np.asarray(jax.jit(ours.apply)(tower.variables, image))
  assert np.abs(wanted).max() > 0.1
  np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * max(1.0, np.abs(wanted).max()))
