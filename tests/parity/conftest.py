"""Torch packages for comparisons, made to import beside a torch without CUDA."""

import functools

import jax
import numpy as np
import pytest

from benchmarks import rivals
from vljax.objectives.contrastive import softmax_contrastive


@pytest.fixture(scope="session")
def torch():
  """torch, beside which torchvision imports."""
  torch = pytest.importorskip("torch")
  rivals.torchvision()
  return torch


@pytest.fixture(scope="session")
def transformers(torch):
  """transformers, quiet."""
  pytest.importorskip("transformers")
  return rivals.transformers()


@pytest.fixture(scope="session")
def open_clip(torch):
  """open_clip."""
  return pytest.importorskip("open_clip")


class Compare:
  """Features, losses and gradients of an imported model against torch's, on the same inputs."""

  def __init__(self, torch, imported, batch: int = 4, seed: int = 0):
    self.torch, self.imported, self.model = torch, imported, imported.model()
    rng = np.random.default_rng(seed)
    size = self.model.image.image_size
    self.image = rng.normal(size=(batch, size, size, 3)).astype(np.float32)
    self.tokens = self.texts(rng, batch, pad=0)

  def texts(self, rng, batch: int, pad: int) -> np.ndarray:
    """Texts of all lengths that end with the largest id and go on with `pad`."""
    text = self.model.text
    tokens = rng.integers(1, text.vocab - 2, (batch, text.length)).astype(np.int32)
    ends = np.linspace(1, text.length - 1, batch).astype(int)
    for row, end in zip(tokens, ends, strict=True):
      row[end] = text.vocab - 1
      row[end + 1 :] = pad
    return tokens

  def ours(self, tokens=None):
    tokens = self.tokens if tokens is None else tokens
    z = jax.jit(self.model.apply)({"params": self.imported.params}, self.image, tokens)
    return tuple(map(np.asarray, z))

  def pixels(self):
    return self.torch.tensor(self.image).permute(0, 3, 1, 2)

  def scale(self) -> float:
    return float(self.model.apply({"params": self.imported.params}, method="scale"))

  def assert_features(self, image, text, tokens=None, atol: float = 1e-4) -> None:
    """Unit features, and logits (cosines times scale), within 1e-4."""
    unit = lambda x: (x / x.norm(dim=-1, keepdim=True)).detach().numpy()
    theirs = unit(image), unit(text)
    ours = self.ours(tokens)
    for a, b in zip(ours, theirs, strict=True):
      np.testing.assert_allclose(a, b, rtol=0, atol=atol)
    np.testing.assert_allclose(
      self.scale() * ours[0] @ ours[1].T, self.scale() * theirs[0] @ theirs[1].T, rtol=0, atol=atol
    )

  def loss_and_gradients(self):
    """The mean symmetric cross-entropy, and its gradients as a tree of numpy arrays."""

    def loss(params):
      z = self.model.apply({"params": params}, self.image, self.tokens)
      scale = self.model.apply({"params": params}, method="scale")
      return softmax_contrastive(*z, scale)[0] / len(self.image)

    value, gradients = jax.jit(jax.value_and_grad(loss))(self.imported.params)
    return float(value), jax.tree.map(np.asarray, gradients)


@pytest.fixture
def compare(torch):
  """Compare(torch, imported, ...)."""
  return functools.partial(Compare, torch)
