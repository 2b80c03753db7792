"""Media as squares of pixels."""

import numpy as np
import pytest
from PIL import Image

from vljax.data import transforms
from vljax.data.mean_std import MEAN_STD
from vljax.data.pictures import MEAN, Pictures, square

RED = np.tile(np.array([200, 10, 10], np.uint8), (4, 8, 1))


def test_the_mean_fills_the_margins():
  np.testing.assert_allclose(MEAN, 255 * np.array(MEAN_STD["clip"][0]), atol=0.5)
  made = square(RED, 8)
  assert (made[2:6] == [200, 10, 10]).all()
  assert (made[:2] == MEAN).all()
  assert (made[6:] == MEAN).all()
  assert square(np.ones((40, 30, 3), np.uint8), 16, fill=(7, 7, 7))[:, 0].tolist() == [[7, 7, 7]] * 16


def test_pictures_and_clips():
  made = Pictures(8)({"media": [RED, Image.fromarray(RED)], "tokens": 1}, None)
  assert sorted(made) == ["images", "tokens"]
  assert (made["images"].shape, made["images"].dtype) == ((2, 1, 8, 8, 3), np.uint8)
  clips = Pictures(8, frames=3)({"media": [[RED, RED, RED], np.stack([RED] * 3)]}, None)["images"]
  assert clips.shape == (2, 3, 8, 8, 3)
  np.testing.assert_array_equal(clips[0], clips[1])
  assert Pictures(8)({"media": []}, None)["images"].shape == (0, 1, 8, 8, 3)


def test_the_frames_of_a_clip_are_mirrored_together():
  half = np.zeros((8, 8, 3), np.uint8)
  half[:, :4] = 255
  step = Pictures(8, frames=2, p_flip=0.5)
  rng = np.random.default_rng(0)
  left = [step({"media": [[half, half]]}, rng)["images"][0, :, 0, 0, 0].tolist() for _ in range(200)]
  assert {tuple(pair) for pair in left} == {(0, 0), (255, 255)}
  assert 70 < sum(pair[0] == 0 for pair in left) < 130


def test_the_number_of_frames_must_fit():
  with pytest.raises(ValueError, match=r"a medium of 2 frames; pictures\(frames = 1\)"):
    Pictures(8)({"media": [[RED, RED]]}, None)


@pytest.mark.parametrize(
  ("step", "message"),
  [
    (("pictures", 0), "size = 0; legal"),
    (("pictures", 8, 0), "frames = 0; legal: 1 or more"),
    (("pictures", 8, {"p_flip": 2.0}), "p_flip = 2.0; legal: 0 to 1"),
  ],
)
def test_wrong_options(step, message):
  with pytest.raises(ValueError, match=message):
    transforms.build([step])
