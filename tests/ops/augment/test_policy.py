"""Operations of policies against Pillow's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from vljax.ops.augment import build, policy

STRENGTHS = (-1.0, -0.6, 0.3, 1.0)


def affine(a, b, c, d, e, f):
  return lambda image, s: image.transform(
    image.size, Image.Transform.AFFINE, tuple(x * (s if i in (1, 3) else 1) for i, x in enumerate((a, b, c, d, e, f)))
  )


def moved(axis):
  def move(image, s):
    pixels = int(150 / 331 * image.size["xy".index(axis)] * s)
    shift = (1, 0, -pixels, 0, 1, 0) if axis == "x" else (1, 0, 0, 0, 1, -pixels)
    return image.transform(image.size, Image.Transform.AFFINE, shift)

  return move


def enhanced(kind):
  return lambda image, s: getattr(ImageEnhance, kind)(image).enhance(1 + 0.9 * s)


PILLOW = {
  "identity": lambda image, s: image,
  "shear_x": affine(1, 0.3, 0, 0, 1, 0),
  "shear_y": affine(1, 0, 0, 0.3, 1, 0),
  "translate_x": moved("x"),
  "translate_y": moved("y"),
  "rotate": lambda image, s: image.rotate(30 * s),
  "brightness": enhanced("Brightness"),
  "color": enhanced("Color"),
  "contrast": enhanced("Contrast"),
  "sharpness": enhanced("Sharpness"),
  "posterize": lambda image, s: ImageOps.posterize(image, 8 - round(4 * s)),
  "solarize": lambda image, s: ImageOps.solarize(image, 255 * (1 - s)),
  "auto_contrast": lambda image, s: ImageOps.autocontrast(image),
  "equalize": lambda image, s: ImageOps.equalize(image),
  "invert": lambda image, s: ImageOps.invert(image),
}


@pytest.fixture(scope="module")
def images():
  """Smooth pictures that do not use all levels."""
  rng = np.random.default_rng(0)
  small = rng.integers(20, 220, (4, 9, 9, 3), np.uint8)
  return np.stack([np.asarray(Image.fromarray(x).resize((32, 28), Image.Resampling.BICUBIC)) for x in small])


@pytest.mark.parametrize("kind", policy.KINDS)
def test_operations_equal_pillow(kind, images):
  run = jax.jit(policy.apply)
  for strength in STRENGTHS if kind in policy.SIGNED else STRENGTHS[2:]:
    number = jnp.full(len(images), policy.KINDS.index(kind))
    got = np.asarray(run(jnp.asarray(images, jnp.float32), number, jnp.full(len(images), strength)))
    want = np.stack([np.asarray(PILLOW[kind](Image.fromarray(x), strength)) for x in images])
    np.testing.assert_array_equal(got, np.round(got))
    off = np.abs(got - want)
    if kind in policy.KINDS[1:6]:  # Pillow steps along rows in fixed point: a pixel on the border of two may differ
      assert (off.max(-1) > 0).mean() < 0.005, strength
    else:
      assert off.max() <= 1, strength  # products of floats and doubles are cut to whole numbers
      assert (off > 0).mean() < 0.02, strength


@pytest.mark.slow
def test_each_image_has_its_own_operation(images):
  """A batch of all kinds gives what each gives alone, and a strength moves none that has no use for it."""
  x = jnp.asarray(np.repeat(images[:1], len(policy.KINDS), 0), jnp.float32)
  kinds = jnp.arange(len(policy.KINDS))
  together = policy.apply(x, kinds, jnp.full(len(kinds), 0.7))
  alone = jnp.concatenate([policy.apply(x[:1], kinds[i : i + 1], jnp.full(1, 0.7)) for i in range(len(kinds))])
  np.testing.assert_array_equal(together, alone)
  np.testing.assert_array_equal(together[0], x[0])
  assert len({np.asarray(y).tobytes() for y in together}) == len(kinds)


@pytest.mark.slow
@pytest.mark.parametrize("step", [("auto_augment",), ("rand_augment", 2, 9)])
def test_policies_are_drawn_per_image_and_stay_in_range(step, images):
  same = jnp.asarray(np.repeat(images[:1], 64, 0) / 255, jnp.float32)
  run = jax.jit(build([step]))
  changed = np.asarray(run(jax.random.key(0), same))
  assert changed.min() >= 0
  assert changed.max() <= 1
  assert len({y.tobytes() for y in changed}) > 15
  np.testing.assert_array_equal(changed, run(jax.random.key(0), same))


@pytest.mark.slow
def test_imagenet_policies_happen_as_often_as_they_say():
  """The middle of a dark picture gets bright by inversion (3 of 25 sub-policies) and by solarizing from 28 on (1)."""
  dark = jnp.full((3000, 16, 16, 3), 51 / 255)
  middle = np.asarray(jax.jit(policy.auto_augment)(jax.random.key(1), dark))[:, 8, 8]
  assert (middle > 0.5).all(-1).mean() == pytest.approx(4 / 25 * 0.6, abs=0.02)


@pytest.mark.slow
def test_rand_augment_of_no_strength_still_equalizes(images):
  """Kinds without a strength are what is left of RandAugment at magnitude 0."""
  same = jnp.asarray(np.repeat(images[:1], 300, 0) / 255, jnp.float32)
  moved = np.abs(np.asarray(policy.rand_augment(jax.random.key(0), same, 1, 0.0)) - same).max((1, 2, 3)) > 1e-6
  assert moved.mean() == pytest.approx(2 / 14, abs=0.06)  # auto-contrast and equalize


@pytest.mark.slow
def test_rand_augment_leaves_the_rest_as_it_is(images):
  same = jnp.asarray(images[:1].repeat(200, 0), jnp.float32) / 255
  changed = lambda **options: (
    np.abs(np.asarray(policy.rand_augment(jax.random.key(0), same, 1, 27.0, **options)) - same).max((1, 2, 3)) > 1e-6
  )
  assert not changed(p=0.0).any()
  assert 0.3 < changed(p=0.5).sum() / changed().sum() < 0.7


def test_the_strength_of_rand_augment_deviates(images):
  """Of the same operation drawn for all, results vary with a deviation only."""
  kinds = jnp.full((200, 1), policy.KINDS.index("posterize"))
  same = jnp.asarray(images[:1].repeat(200, 0), jnp.float32) / 255
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax.random, "randint", lambda *_: kinds)
    several = [
      len({x.tobytes() for x in np.asarray(policy.rand_augment(jax.random.key(0), same, 1, 15.0, deviation=d))})
      for d in (0.0, 8.0)
    ]
  assert several[0] == 1
  assert several[1] >= 3
