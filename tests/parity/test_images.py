"""Pixels equal to open_clip's, torchvision's and Hugging Face's preprocessing on PIL images."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from vljax.data import decode, images, mean_std

pytestmark = pytest.mark.parity

SHAPES = [(500, 375), (375, 500), (640, 427), (224, 224), (100, 80), (31, 300), (225, 224), (333, 217), (1023, 767)]


def picture(shape: tuple[int, int], mode: str = "RGB") -> Image.Image:
  rng = np.random.default_rng(0)
  small = Image.fromarray(rng.integers(0, 256, (shape[1] // 8 + 2, shape[0] // 8 + 2, 4), dtype=np.uint8))
  return small.resize(shape, Image.BICUBIC).convert(mode)


def to_uint8(tensor) -> np.ndarray:
  mean, std = (np.array(x) for x in mean_std.mean_std("clip"))
  return np.rint((tensor.numpy().transpose(1, 2, 0) * std + mean) * 255).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", images.RESIZE_MODES)
def test_preprocess_equals_open_clip(open_clip, shape, mode):
  theirs = open_clip.image_transform(224, is_train=False, resize_mode=mode, interpolation="bicubic")
  ours = images.preprocess(picture(shape), 224, mode)
  assert np.array_equal(ours, to_uint8(theirs(picture(shape))))


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "CMYK", "1"])
def test_color_modes_equal_open_clip(open_clip, mode):
  theirs = open_clip.image_transform(64, is_train=False)
  assert np.array_equal(images.preprocess(picture((90, 70), mode), 64), to_uint8(theirs(picture((90, 70), mode))))


@pytest.mark.parametrize("shape", SHAPES)
def test_preprocess_equals_hugging_face_up_to_half_a_pixel(open_clip, shape):
  pil = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
  theirs = pil.CLIPImageProcessorPil(do_normalize=False, do_rescale=False)
  made = np.asarray(theirs(picture(shape), return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)
  resized = images.resize(picture(shape), 224)
  left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
  expected = np.asarray(resized.crop((left, top, left + 224, top + 224)))
  assert np.array_equal(expected, made.astype(np.uint8)), "theirs rounds the crop down, OpenAI's to the even pixel"
  if not (resized.width % 2 or resized.height % 2):
    assert np.array_equal(expected, images.preprocess(picture(shape), 224))


def test_crop_of_a_box_equals_torchvision(open_clip):
  from torchvision.transforms import InterpolationMode, functional

  file = io.BytesIO()
  picture((500, 375)).save(file, "JPEG")
  rng = np.random.default_rng(0)
  for _ in range(20):
    left, top, right, bottom = images.random_box(500, 375, (0.08, 1.0), (3 / 4, 4 / 3), rng)
    image = decode.open_rgb(file.getvalue())
    theirs = functional.resized_crop(image, top, left, bottom - top, right - left, [96, 96], InterpolationMode.BICUBIC)
    ours = images.resized_crop(decode.open_rgb(file.getvalue()), (left, top, right, bottom), 96)
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_boxes_are_distributed_as_torchvision_draws_them(torch):
  """Corners and sizes by the Kolmogorov-Smirnov test; both draw from fixed seeds."""
  from torchvision.transforms import RandomResizedCrop

  torch.manual_seed(0)
  image, rng, args = Image.new("RGB", (500, 200)), np.random.default_rng(0), ((0.3, 1.0), (3 / 4, 4 / 3))
  theirs = np.array([RandomResizedCrop.get_params(image, *args) for _ in range(3000)])
  top, left, height, width = theirs.T
  boxes = np.array([images.random_box(500, 200, *args, rng) for _ in range(3000)])
  for a, b in zip(boxes.T, (left, top, left + width, top + height), strict=True):
    assert stats.ks_2samp(a, b).pvalue > 0.01
  for axis, size in enumerate((width, height)):
    assert stats.ks_2samp(boxes[:, 2 + axis] - boxes[:, axis], size).pvalue > 0.01
