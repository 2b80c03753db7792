import jax.numpy as jnp
import numpy as np
import pytest

from vljax.data import sources
from vljax.evaluate import transformation
from vljax.evaluate.gallery import Gallery

TURNS = [[("rotate", (turn,))] for turn in (0, 90, 180, 270)]


@pytest.fixture(scope="module")
def images():
  return np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)


def test_each_picture_goes_through_its_choice(images):
  choice = np.array([0, 1, 2, 3, 2, 1])
  turned = np.asarray(transformation.change(TURNS, 8)(images, np.arange(6), choice))
  np.testing.assert_array_equal(turned, [np.rot90(image, k) for image, k in zip(images, choice, strict=True)])
  gray = np.asarray(transformation.change([(), [("grayscale", 1.0)]], 8)(images, np.arange(6), np.arange(6) % 2))
  np.testing.assert_array_equal(gray[::2], images[::2])
  assert np.ptp(gray[1::2].astype(int), axis=-1).max() == 0


def test_noise_goes_with_the_number_of_a_picture(images):
  changed = transformation.change([[("gaussian_noise", 0.1)], ()], 8)
  whole = np.asarray(changed(images, np.arange(6), np.zeros(6, int)))
  np.testing.assert_array_equal(whole[4:], changed(images[4:], np.arange(4, 6), np.zeros(2, int)))
  same = np.asarray(changed(images[[0, 0]], np.arange(2), np.zeros(2, int)))
  assert (same[0] != same[1]).mean() > 0.5


@pytest.mark.parametrize(
  ("step", "message"),
  [
    (("random_resized_crop", 4), r"makes pictures \(4, 4, 3\) of \(8, 8, 3\); legal: steps that keep the size"),
    (("rotate", (45,)), r"\[\('rotate', \(45,\)\)\] does not run on pictures of 8 pixels: rotate by \(45,\); legal"),
    (("rotate", 90), r"\[\('rotate', 90\)\] does not run on pictures of 8 pixels"),
    (("greyscale",), "did you mean 'grayscale'"),
  ],
)
def test_steps_that_cannot_be_asked_for_are_refused_before_any_picture(step, message):
  with pytest.raises(ValueError, match=message):
    transformation.change([(), [step]], 8)


@pytest.mark.slow
def test_what_features_hold_and_projections_have_lost():
  """Features that hold how colorful a picture is tell gray ones; a projection to nothing leaves the chance."""
  keep = lambda example, rng: {"image": example["image"][:16, :16]}
  part = lambda seed, n: Gallery(sources.open(f"synthetic:pairs?n={n}&size=16&seed={seed}"), keep, None, 32)
  predict = {
    "encode_image": lambda params, image: jnp.ptp(image.astype(jnp.float32), axis=-1).mean((1, 2))[:, None],
    "project": lambda params, features: 0 * features,
  }
  changed, numbers = transformation.change([(), [("grayscale", 1.0)]], 16), []

  def noted(images, number, choice):
    numbers.append({*number})
    return changed(images, number, choice)

  found = transformation.evaluate(part(1, 200), part(0, 400), noted, (0.8, 0.2), predict, {})
  known, asked = set.union(*numbers[:13]), set.union(*numbers[13:])
  assert (len(known), len(asked), len(known & asked)) == (400, 200, 0)
  chance = found["features/top1/chance"]
  assert 0.7 < chance < 0.9
  assert found["features/top1"] > 0.95
  assert found["projection/top1"] == found["projection/top1/chance"] == chance
