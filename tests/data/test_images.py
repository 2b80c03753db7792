"""Geometry: CLIP's preprocessing, random boxes, partial decoding."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vljax.data import decode, images, mean_std

RNG = np.random.default_rng(0)


def picture(width: int, height: int) -> Image.Image:
  y, x = np.mgrid[:height, :width]
  waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], -1)
  return Image.fromarray((waves * 127 + 128).astype(np.uint8))


def jpeg(image: Image.Image) -> bytes:
  file = io.BytesIO()
  image.save(file, "JPEG", quality=95)
  return file.getvalue()


@pytest.mark.parametrize(
  ("shape", "mode", "expected"),
  [
    ((500, 375), "shortest", (298, 224)),
    ((375, 500), "shortest", (224, 298)),
    ((333, 217), "shortest", (343, 224)),
    ((224, 600), "shortest", (224, 600)),
    ((500, 375), "longest", (224, 168)),
    ((1000, 1), "longest", (224, 1)),
    ((500, 375), "squash", (224, 224)),
  ],
)
def test_resize_shapes(shape, mode, expected):
  assert images.resize(picture(*shape), 224, mode).size == expected


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 48), st.sampled_from(images.RESIZE_MODES))
def test_preprocess_is_always_square(width, height, size, mode):
  made = images.preprocess(np.asarray(picture(width, height)), size, mode)
  assert made.shape == (size, size, 3)
  assert made.dtype == np.uint8


def test_center_crop():
  pixels = np.arange(7 * 5 * 3, dtype=np.uint8).reshape(7, 5, 3)
  made = np.asarray(images.center_crop(Image.fromarray(pixels), 3))
  assert np.array_equal(made, pixels[2:5, 1:4])
  padded = np.asarray(images.center_crop(Image.fromarray(pixels), 10))
  assert np.array_equal(padded[1:8, 2:7], pixels)
  assert padded.sum() == pixels.astype(int).sum()


def test_pad_square():
  made = np.asarray(images.pad_square(picture(10, 4), (9, 9, 9)))
  assert made.shape == (10, 10, 3)
  assert np.array_equal(made[3:7], np.asarray(picture(10, 4)))
  assert (made[:3] == 9).all()
  assert (made[7:] == 9).all()


def test_flip():
  assert np.array_equal(np.asarray(images.flip_lr(picture(9, 4))), np.asarray(picture(9, 4))[:, ::-1])


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32))
def test_boxes_lie_inside(width, height, seed):
  left, top, right, bottom = images.random_box(width, height, (0.08, 1.0), (3 / 4, 4 / 3), np.random.default_rng(seed))
  assert 0 <= left < right <= width
  assert 0 <= top < bottom <= height


def test_boxes_follow_the_rule():
  rng = np.random.default_rng(0)
  boxes = np.array([images.random_box(1000, 1000, (0.25, 0.5), (0.5, 2.0), rng) for _ in range(4000)])
  w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
  area, aspect = w * h / 1e6, np.log2(w / h)
  assert 0.248 < area.min() < 0.26
  assert 0.49 < area.max() < 0.502
  assert abs(area.mean() - 0.375) < 0.005
  assert abs(aspect.mean()) < 0.03
  assert abs(aspect.std() - 2 / np.sqrt(12)) < 0.02
  assert abs((boxes[:, 0] / (1000 - w).clip(1)).mean() - 0.5) < 0.02


@pytest.mark.parametrize(("shape", "expected"), [((1000, 10), (493, 0, 506, 10)), ((10, 1000), (0, 493, 10, 506))])
def test_fallback_is_the_widest_centered_box(shape, expected):
  assert images.random_box(*shape, (1.0, 1.0), (3 / 4, 4 / 3), np.random.default_rng(0)) == expected


def test_crop_of_a_whole_decode_is_exact():
  image = picture(300, 200)
  made = images.resized_crop(image, (10, 20, 150, 130), 64)
  assert np.array_equal(np.asarray(made), np.asarray(image.crop((10, 20, 150, 130)).resize((64, 64), Image.BICUBIC)))


@pytest.mark.parametrize(("need", "shape"), [(64, (300, 200)), (20, (75, 50)), (10, (38, 25))])
def test_partial_decode_is_near_the_whole(need, shape):
  data = jpeg(picture(300, 200))
  box = (30, 10, 250, 190)
  lazy = decode.open_rgb(data)
  made = np.asarray(images.resized_crop(lazy, box, need, gap=2.0)).astype(int)
  assert lazy.size == shape
  whole = np.asarray(images.resized_crop(decode.open_rgb(data), box, need)).astype(int)
  assert np.abs(made - whole).mean() < 6


@pytest.mark.parametrize(("gap", "error"), [(1.0, 6), (2.0, 2)])
def test_gap_is_near_the_exact_crop_of_pixels(gap, error):
  exact = np.asarray(images.resized_crop(picture(300, 200), (10, 20, 290, 180), 24)).astype(int)
  made = np.asarray(images.resized_crop(picture(300, 200), (10, 20, 290, 180), 24, gap=gap)).astype(int)
  assert np.abs(made - exact)[1:-1, 1:-1].mean() < error


def test_partial_decode_needs_an_unread_jpeg():
  read = decode.load(decode.open_rgb(jpeg(picture(300, 200))))
  images.resized_crop(read, (0, 0, 300, 200), 8, gap=2.0)
  assert read.size == (300, 200)


def test_sixteen_bits_are_shown_as_eight():
  gray = np.asarray(picture(90, 70).convert("L"))
  deep = Image.fromarray(gray.astype(np.uint16) * 257)
  assert np.array_equal(images.preprocess(deep, 32), images.preprocess(gray, 32))
  with pytest.raises(ValueError, match=r"an image is of mode F, from 0\.0 to 1\.0; legal: pictures of 8 or 16 bits"):
    images.preprocess(Image.fromarray(np.eye(9, dtype=np.float32)), 32)


def test_unknown_mode():
  with pytest.raises(ValueError, match="unknown resize mode 'shortst'; did you mean 'shortest'"):
    images.preprocess(np.zeros((4, 4, 3), np.uint8), 4, "shortst")


@pytest.mark.parametrize("shape", [(48, 48, 3), (50, 70, 3), (71, 43, 3)])
def test_the_middle_square_may_keep_a_share_of_the_short_side(shape):
  """7/8 at 28 px is the middle 28 px of the square at 32 px."""
  picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  whole = images.preprocess(picture, 32)
  np.testing.assert_array_equal(images.preprocess(picture, 28, crop=0.875), whole[2:30, 2:30])
  for mode, crop in (("shortest", 0.0), ("shortest", 1.1), ("squash", 0.9)):
    with pytest.raises(ValueError, match=f"crop = {crop} with mode '{mode}'; legal: "):
      images.preprocess(picture, 28, mode, crop=crop)


def test_constants():
  mean, std = mean_std.mean_std("clip")
  assert mean == (0.48145466, 0.4578275, 0.40821073)
  assert std == (0.26862954, 0.26130258, 0.27577711)
  with pytest.raises(ValueError, match="unknown normalization 'imagnet'; did you mean 'imagenet'"):
    mean_std.mean_std("imagnet")
