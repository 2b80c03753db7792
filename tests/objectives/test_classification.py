"""Cross-entropy with soft targets, against its definition."""

import jax.numpy as jnp
import numpy as np

from vljax.objectives import classification


def test_equals_its_definition():
  rng = np.random.default_rng(0)
  logits, target = rng.normal(size=(5, 3)), rng.dirichlet(np.ones(3), 5)
  loss, metrics = classification.cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(target, jnp.float32))
  softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  np.testing.assert_allclose(loss, -(target * np.log(softmax)).sum(), rtol=1e-5)
  np.testing.assert_allclose(metrics["top1"], (logits.argmax(1) == target.argmax(1)).mean(), rtol=1e-6)


def test_smoothing_spreads_a_share_and_wrong_labels_are_seen():
  target = classification.targets(jnp.array([2, 0, 4, -1]), 4, 0.2)
  np.testing.assert_allclose(target[:2], [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]], rtol=1e-6)
  assert np.isnan(target[2:]).all()
