import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import parallel
from vljax.objectives import views


def draw(seed, n=6, d=5):
  return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def reference(a, b, each):
  """Half the sum over all 2 n views of `each(positive score, scores of the other examples' views)`."""
  z = np.concatenate([a, b]).astype(np.float64)
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  n, total = len(a), 0.0
  for i in range(2 * n):
    partner = (i + n) % (2 * n)
    others = [z[i] @ z[j] for j in range(2 * n) if j not in (i, partner)]
    total += each(z[i] @ z[partner], np.array(others))
  return total / 2


def xent(positive, others, t=0.1):
  return np.log(np.exp(positive / t) + np.exp(others / t).sum()) - positive / t


def semi_hard(positive, others):
  below = others[others < positive]
  return below.max() if len(below) else None


CASES = {
  "xent": (views.nt_xent, xent),
  "xent, warm": (functools.partial(views.nt_xent, temperature=1.0), functools.partial(xent, t=1.0)),
  "decoupled": (
    functools.partial(views.nt_xent, decoupled=True),
    lambda p, others: np.log(np.exp(others / 0.1).sum()) - p / 0.1,
  ),
  "logistic": (
    functools.partial(views.nt_logistic, temperature=0.5),
    lambda p, others: np.log1p(np.exp(-p / 0.5)) + np.log1p(np.exp(others / 0.5)).mean(),
  ),
  "margin": (views.margin, lambda p, others: np.maximum(others - p + 0.4, 0).mean()),
  "margin, semi-hard": (
    functools.partial(views.margin, semi_hard=True),
    lambda p, others: 0.0 if (s := semi_hard(p, others)) is None else max(s - p + 0.4, 0),
  ),
  "logistic, semi-hard": (
    functools.partial(views.nt_logistic, semi_hard=True),
    lambda p, others: (
      np.log1p(np.exp(-p / 0.1)) + (0.0 if (s := semi_hard(p, others)) is None else np.log1p(np.exp(s / 0.1)))
    ),
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_equals_the_definition(name):
  loss, each = CASES[name]
  value, metrics = loss(draw(0), draw(0) + 0.7 * draw(1))
  np.testing.assert_allclose(value, reference(draw(0), draw(0) + 0.7 * draw(1), each), rtol=1e-5)
  assert 0 < metrics["accuracy"] <= 1


@pytest.mark.slow
def test_the_released_scaling_is_twice_the_papers():
  paper, released = (views.nt_xent(draw(0), draw(1), scaling=s)[0] for s in ("paper", "released"))
  np.testing.assert_allclose(released, 2 * paper)


def test_without_normalization_lengths_count():
  a, b = draw(0), draw(1)
  np.testing.assert_allclose(views.nt_xent(a, b)[0], views.nt_xent(3 * a, 2 * b)[0], rtol=1e-5)
  assert abs(views.nt_xent(a, b, normalize=False)[0] - views.nt_xent(3 * a, b, normalize=False)[0]) > 1


def test_entropy_is_that_of_the_softmax():
  _, metrics = views.nt_xent(draw(0), draw(1), temperature=1e6)
  np.testing.assert_allclose(metrics["entropy"], np.log(11), rtol=1e-4)  # all 11 other views alike
  assert views.nt_xent(draw(0), draw(0), temperature=1e-3)[1]["entropy"] < 1e-3


def test_supervised_partners_are_the_class():
  a, b = draw(0), draw(1)
  alone, _ = views.supervised_contrastive(a, b, jnp.arange(6))
  np.testing.assert_allclose(alone, views.nt_xent(a, b)[0], rtol=1e-5)
  z = np.concatenate([a, b]).astype(np.float64)
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  labels, s = np.tile([0, 0, 0, 1, 1, 2], 2), np.exp(z @ z.T / 0.1)
  np.fill_diagonal(s, 0)
  logs = np.log(np.where(s > 0, s, 1) / s.sum(1, keepdims=True))
  want = sum(-np.mean([logs[i, j] for j in range(12) if j != i and labels[j] == labels[i]]) for i in range(12)) / 2
  np.testing.assert_allclose(views.supervised_contrastive(a, b, jnp.array([0, 0, 0, 1, 1, 2]))[0], want, rtol=1e-5)


def test_any_sharding_gives_the_same_number():
  a, b = draw(0, 16), draw(1, 16)
  f = jax.jit(jax.value_and_grad(lambda a, b: views.nt_xent(a, b)[0]))
  want = f(a, b)
  mesh = jax.make_mesh((8, 1, 1), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
  with parallel.use(mesh):
    where = parallel.sharding(mesh, parallel.DEFAULT, ("batch", None), a.shape)
    got = f(*jax.device_put([jnp.asarray(a), jnp.asarray(b)], where))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), got, want)


def test_a_config_names_the_loss():
  named = views.loss({"name": "margin", "margin": 0.1})
  np.testing.assert_array_equal(named(draw(0), draw(1))[0], views.margin(draw(0), draw(1), margin=0.1)[0])
  labels = jnp.array([0, 0, 0, 1, 1, 2])
  classes = views.loss({"name": "supervised_contrastive", "temperature": 0.2})
  want = views.supervised_contrastive(draw(0), draw(1), labels, temperature=0.2)[0]
  np.testing.assert_array_equal(classes(draw(0), draw(1), labels)[0], want)
  with pytest.raises(ValueError, match="loss of two views 'nt_xnet'; did you mean 'nt_xent'"):
    views.loss({"name": "nt_xnet"})
