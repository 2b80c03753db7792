"""Classifiers on towers: frozen, tapped, and starting from nothing."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.models import resnet, vit
from vljax.models.classifier import Classifier
from vljax.models.projected import Projection


@pytest.fixture(scope="module")
def image():
  return np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)


def start(model, image):
  return flax.core.meta.unbox(jax.jit(model.init)(jax.random.key(0), image))


@pytest.mark.slow
def test_a_frozen_tower_is_run_as_at_evaluation_and_has_no_gradient(image):
  model = Classifier(resnet.build("test"), 3, frozen=True)
  variables = start(model, image)
  params, extras = variables.pop("params"), variables
  params["classifier"]["kernel"] = jnp.ones_like(params["classifier"]["kernel"])

  @jax.jit
  def loss(params):
    logits, new = model.apply({"params": params, **extras}, image, train=True, mutable=["batch_stats"])
    return jnp.square(logits).sum(), (logits, new)

  grads, (logits, new) = jax.grad(loss, has_aux=True)(params)
  np.testing.assert_allclose(logits, model.apply({"params": params, **extras}, image), rtol=1e-4)
  assert not any(np.any(g) for g in jax.tree.leaves(grads["backbone"]))
  assert all(np.any(g) for g in jax.tree.leaves(grads["classifier"]))
  jax.tree.map(np.testing.assert_array_equal, new["batch_stats"], extras["batch_stats"])


@pytest.mark.slow
def test_a_new_classifier_knows_nothing_and_keeps_the_layers_that_are_tapped(image):
  model = Classifier(resnet.build("test"), 5, head=Projection(layers=3), tap=1)
  variables = start(model, image)
  assert set(variables["params"]) == {"backbone", "head", "classifier"}
  assert set(variables["params"]["head"]) == {"linear_0", "norm_0"}
  np.testing.assert_array_equal(model.apply(variables, image), np.zeros((4, 5), np.float32))
  features = model.apply(variables, image, method="features")
  tapped = Projection(layers=3).apply(
    {"params": variables["params"]["head"], "batch_stats": variables["batch_stats"]["head"]},
    model.backbone.apply(
      {"params": variables["params"]["backbone"], "batch_stats": variables["batch_stats"]["backbone"]}, image
    ),
    tap=1,
  )
  np.testing.assert_array_equal(features, tapped)
  assert features.shape == (4, model.backbone.width)


def test_more_layers_than_the_head_has_are_refused(image):
  with pytest.raises(ValueError, match="tap = 3 layers of a nonlinear head; legal: 0 to 2"):
    start(Classifier(resnet.build("test"), 5, head=Projection(), tap=3), image)


@pytest.mark.slow
def test_towers_without_statistics_do_too(image):
  model = Classifier(vit.build("test"), 3)
  variables = start(model, image)
  assert set(variables) == {"params"}
  logits, new = model.apply(variables, image, train=True, mutable=[])
  assert logits.shape == (4, 3)
  assert not new
