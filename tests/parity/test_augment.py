"""AutoAugment's policy, the strengths of its operations and RandAugment's against torchvision's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks import rivals
from vljax.ops.augment import color, policy

pytestmark = pytest.mark.parity

NAMES = {"auto_contrast": "AutoContrast", **{k: k.title().replace("_", "") for k in policy.KINDS if k[:5] != "auto_"}}


@pytest.fixture(scope="module")
def transforms():
  pytest.importorskip("torch")
  torchvision = rivals.torchvision()
  if torchvision is None:
    pytest.skip("torchvision is not installed")
  from torchvision import transforms

  return transforms


@pytest.fixture(scope="module")
def image():
  small = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
  return Image.fromarray(small).resize((33, 33), Image.Resampling.BICUBIC)


def test_the_policy_is_torchvisions(transforms):
  theirs = transforms.AutoAugment(transforms.AutoAugmentPolicy.IMAGENET).policies
  uses = lambda kind: kind not in ("auto_contrast", "equalize", "invert")
  ours = [tuple((NAMES[k], p, level if uses(k) else None) for k, p, level in pair) for pair in policy.IMAGENET]
  assert ours == [tuple(pair) for pair in theirs]


@pytest.mark.parametrize("kind", policy.KINDS)
@pytest.mark.parametrize("level", [3, 9])
def test_strengths_are_torchvisions(kind, level, transforms, image):
  from torchvision.transforms import InterpolationMode, autoaugment

  space = transforms.AutoAugment()._augmentation_space(10, image.size) | {"Identity": (np.zeros(10), False)}
  values, signed = space[NAMES[kind]]
  assert signed == (kind in policy.SIGNED)
  for sign in (1, -1) if signed else (1,):
    strength = sign * float(values[level]) if np.ndim(values) else 0.0
    theirs = autoaugment._apply_op(image, NAMES[kind], strength, InterpolationMode.NEAREST, None)
    x, number = jnp.asarray(np.asarray(image)[None], jnp.float32), jnp.array([policy.KINDS.index(kind)])
    ours = np.asarray(policy.apply(x, number, jnp.array([sign * level / 9])))[0]
    off = np.abs(ours - np.asarray(theirs, np.float32)).max(-1)
    assert (off > 1).mean() < 0.01, (kind, sign)


def test_jitter_has_torchvisions_operations(transforms, image):
  """Contrast is about each channel's own mean here, as in SimCLR's code; brightness and hue are the same."""
  from torchvision.transforms import functional

  x = functional.to_tensor(image)
  ours = color.planes(jnp.asarray(np.asarray(image)[None] / 255, jnp.float32))
  for mine, theirs in (
    (color.scale(ours, jnp.float32(0.7)), functional.adjust_brightness(x, 0.7)),
    (color.shift_hue(ours, jnp.float32(0.15)), functional.adjust_hue(x, 0.15)),
  ):
    np.testing.assert_allclose(jnp.stack(mine)[:, 0], theirs.numpy(), atol=1e-5)


def test_rand_augment_draws_torchvisions_kinds(transforms):
  theirs = transforms.RandAugment()
  names = list(theirs._augmentation_space(31, (33, 33)))
  assert names == [NAMES[kind] for kind in policy.KINDS[:-1]]
  assert (theirs.num_ops, theirs.magnitude, theirs.num_magnitude_bins) == (2, 9, 31)
  assert jax.eval_shape(lambda x: policy.rand_augment(jax.random.key(0), x), jnp.ones((2, 8, 8, 3))).shape[0] == 2
