"""Mixup and CutMix: pictures and targets mix by the same shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.ops.augment import mix

CLASSES = 16


@pytest.fixture(scope="module")
def batch():
  """Example i is a picture of the one color i, of class i: the picture tells what it was mixed of."""
  color = jnp.arange(CLASSES, dtype=jnp.float32)[:, None, None, None]
  return jnp.broadcast_to(color, (CLASSES, 8, 6, 3)), jnp.eye(CLASSES)


def means(pictures):
  return np.asarray(pictures.mean((1, 2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_the_mean_color_is_that_of_the_target(batch, alphas):
  images, targets = jax.jit(mix.mix, static_argnums=3)(jax.random.key(0), *batch, alphas)
  np.testing.assert_allclose(means(images), targets @ np.arange(CLASSES), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)
  shares = np.asarray(targets)[np.arange(CLASSES), np.arange(CLASSES)]
  assert len(np.unique(shares.round(4))) > CLASSES // 2, "each example draws its own share"
  other = np.roll(np.arange(CLASSES), 1)
  np.testing.assert_allclose(np.asarray(targets)[np.arange(CLASSES), other], 1 - shares, atol=1e-5)


@pytest.mark.slow
def test_cutmix_keeps_whole_pixels_of_a_box_and_mixup_blends(batch):
  cut, _ = mix.cutmix(jax.random.key(1), *batch, 1.0)
  blended, _ = mix.mixup(jax.random.key(1), *batch, 1.0)
  boxes = 0
  for i, picture in enumerate(np.asarray(cut)):
    foreign = picture[..., 0] != i
    assert set(np.unique(picture)) <= {i, (i - 1) % CLASSES}
    assert (foreign == foreign.any(1, keepdims=True) * foreign.any(0, keepdims=True)).all()
    boxes += foreign.any()
  assert boxes > CLASSES // 2
  assert len(np.unique(np.asarray(blended)[3])) == 1
  assert float(blended[3, 0, 0, 0]) not in (2.0, 3.0)


@pytest.mark.slow
def test_both_halves_are_mixed_each_in_its_way(batch):
  images, _ = mix.mix(jax.random.key(0), *batch, (1.0, 1.0))
  blended = [float(picture.max() - picture.min()) == 0 and float(picture.max()) % 1 > 0 for picture in images]
  assert 2 < sum(blended) < CLASSES - 2


def test_no_alpha_changes_nothing(batch):
  images, targets = mix.mix(jax.random.key(0), *batch, (0.0, 0.0))
  assert images is batch[0]
  assert targets is batch[1]
