"""timm's NFNets with the same random weights, gains and SkipInit randomized."""

import jax
import numpy as np
import pytest

from vljax import tree
from vljax.interop import nfnet
from vljax.interop.tower import Tower
from vljax.models import nfnet as models

pytestmark = pytest.mark.parity

F0 = [pytest.param(name, 96, marks=pytest.mark.slow) for name in ("dm_nfnet_f0", "nfnet_f0")]


def their_model(torch, name):
  timm = pytest.importorskip("timm")
  torch.manual_seed(0)
  model = timm.create_model(name, pretrained=False).eval()
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      if key.endswith("gain"):
        parameter.uniform_(0.5, 1.5)
      elif key.endswith("bias"):
        parameter.normal_(0, 0.1)
  return model, {key: value.numpy() for key, value in model.state_dict().items()}


def our_model(tower: Tower) -> models.NFNet:
  return models.build(**{name: value for name, value in tower.config.items() if name != "tower"})


def distance(found, wanted) -> float:
  """The largest difference over the largest value."""
  return float(np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(("name", "size"), [("test_nfnet", 68), *F0])  # 68: odd sides on the way
def test_grid_and_logits(torch, name, size):
  theirs, state = their_model(torch, name)
  tower = nfnet.from_state(state, num_classes=1000, where=name)
  assert tree.count(tower.weights) == sum(p.numel() for p in theirs.parameters())
  model = our_model(tower)
  image = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
  pixels = torch.tensor(image).permute(0, 3, 1, 2)
  with torch.no_grad():
    grid = theirs.forward_features(pixels).permute(0, 2, 3, 1).numpy()
    logits = theirs(pixels).numpy()
  ours = jax.jit(lambda v, x: (model.apply(v, x, method="grid"), model.apply(v, x)))(tower.variables, image)
  assert distance(ours[0], grid) < 1e-5
  assert distance(ours[1], logits) < 1e-5


def test_what_no_weight_tells_matters(torch):
  """The same weights under the paper's rules give other numbers, so the family must be known."""
  theirs, state = their_model(torch, "test_nfnet")
  image = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
  with torch.no_grad():
    wanted = theirs(torch.tensor(image).permute(0, 3, 1, 2)).numpy()
  tower = nfnet.from_state(state, num_classes=1000, where="here")
  for change in (dict(eps="deepmind"), dict(padding="same"), dict(gamma="activation"), dict(activation="gelu")):
    model = our_model(tower).clone(**change)
    assert distance(jax.jit(model.apply)(tower.variables, image), wanted) > 1e-4, change


def test_gradients(torch):
  """Of the mean square of the logits, for every parameter."""
  theirs, state = their_model(torch, "test_nfnet")
  tower = nfnet.from_state(state, num_classes=1000, where="here")
  model = our_model(tower)
  image = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype(np.float32)
  theirs(torch.tensor(image).permute(0, 3, 1, 2)).square().mean().backward()
  wanted = {key: parameter.grad.numpy() for key, parameter in theirs.named_parameters()}
  loss = jax.jit(jax.grad(lambda v: (model.apply(v, image) ** 2).mean()))
  found = nfnet.to_state(Tower("image", tower.config, {"image": loss(tower.variables)["params"]}), haiku=False)
  assert found.keys() == wanted.keys()
  for key, gradient in wanted.items():
    assert distance(found[key], gradient) < 1e-4, key


def test_our_weights_load_into_timm(torch, tmp_path):
  theirs, state = their_model(torch, "test_nfnet")
  tower = nfnet.from_state(state, num_classes=1000, where="here")
  nfnet.save(tmp_path / "model.pt", tower)
  written = torch.load(tmp_path / "model.pt", weights_only=True)
  theirs.load_state_dict(written)
  assert all(torch.equal(written[key], torch.tensor(array)) for key, array in state.items())
