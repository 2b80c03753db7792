"""Each augmentation against Pillow, colorsys or scipy-free numpy, and its randomness against its law."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from vljax.ops.augment import color, filters, geometry
from vljax.ops.augment.api import build

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def images():
  return jnp.asarray(np.random.default_rng(0).uniform(size=(6, 24, 24, 3)).astype(np.float32))


def by_pillow(image, box, size, how):
  top, left, height, width = box
  channels = [
    Image.fromarray(np.asarray(image[..., c])).crop((left, top, left + width, top + height)).resize((size, size), how)
    for c in range(3)
  ]
  return np.clip(np.stack([np.asarray(c) for c in channels], -1), 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 24, 40])
@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
def test_crops_are_resized_as_pillow_does(images, name, size):
  boxes = [(0, 0, 24, 24), (3, 5, 12, 17), (10, 2, 7, 20), (0, 9, 24, 8), (5, 5, 10, 10), (20, 20, 4, 4)]
  got = geometry.crop_and_resize(images, jnp.array(boxes, jnp.float32), size, name)
  how = getattr(Image.Resampling, name.upper())
  for y, image, box in zip(got, images, boxes, strict=True):
    np.testing.assert_allclose(y, by_pillow(image, box, size, how), atol=1e-5)


@pytest.mark.slow
def test_boxes_follow_scale_and_ratio():
  ramp = jnp.broadcast_to(jnp.linspace(0, 1, 64)[None, :, None, None], (2000, 64, 64, 1))
  crops = geometry.random_resized_crop(KEY, ramp, 8, scale=(0.25, 0.25), ratio=(1.0, 1.0), interpolation="bilinear")
  span = (crops[:, -2, 0, 0] - crops[:, 1, 0, 0]) * 63 / 5 * 8
  np.testing.assert_allclose(span, 32, atol=0.5)  # a quarter of the area: half of each side
  assert np.std(crops[:, 0, 0, 0]) > 0.1  # and anywhere


@pytest.mark.slow
def test_flips_and_turns_move_pixels_only(images):
  flipped = geometry.flip_lr(KEY, images, p=1.0)
  np.testing.assert_array_equal(flipped, np.asarray(images)[:, :, ::-1])
  turned = np.asarray(geometry.rotate(KEY, images, (90,)))
  np.testing.assert_array_equal(turned, np.rot90(images, 1, (1, 2)))
  mixed = np.asarray(geometry.rotate(KEY, jnp.tile(images[:1], (200, 1, 1, 1))))
  counts = [sum(np.array_equal(m, np.rot90(images[0], k)) for m in mixed) for k in range(4)]
  assert sum(counts) == 200
  assert min(counts) > 25
  with pytest.raises(ValueError, match="legal: multiples of 90"):
    geometry.rotate(KEY, images, (45,))


def test_cutout_paints_one_square():
  painted = np.asarray(geometry.cutout(KEY, jnp.zeros((50, 20, 20, 3)), 6, fill=1.0))[..., 0]
  areas = painted.sum((1, 2))
  assert areas.max() == 36
  assert areas.min() >= 9  # a quarter at least, in the corners
  assert len({tuple(p.ravel()) for p in painted}) > 30


@pytest.mark.slow
def test_random_erasing_paints_a_box_of_some():
  ones = jnp.ones((400, 30, 40, 1))
  hidden = 1 - np.asarray(geometry.random_erasing(KEY, ones, 0.25))[..., 0]
  shares = hidden.mean((1, 2))
  assert 70 <= (shares > 0).sum() <= 130
  assert 0.015 < shares[shares > 0].min() < shares.max() < 0.35
  for box in hidden[shares > 0][:20]:
    rows, columns = box.max(1), box.max(0)
    np.testing.assert_array_equal(box, np.outer(rows, columns))
    assert np.abs(np.diff(rows, prepend=0, append=0)).sum() == 2
    assert 0.25 < rows.sum() / columns.sum() < 4 or max(rows.mean(), columns.mean()) == 1


def pixelwise(function, images):
  flat = np.asarray(images).reshape(-1, 3)
  return np.array([function(*pixel) for pixel in flat]).reshape(images.shape)


@pytest.mark.slow
def test_hue_and_saturation_equal_colorsys(images):
  def hue(r, g, b):
    h, s, v = colorsys.rgb_to_hsv(r, g, b)
    return colorsys.hsv_to_rgb((h + 0.3) % 1, s, v)

  def saturation(r, g, b):
    h, s, v = colorsys.rgb_to_hsv(r, g, b)
    return colorsys.hsv_to_rgb(h, min(1.7 * s, 1), v)

  images = images.at[0, 0, 0].set(0.5).at[0, 0, 1].set(0)  # gray and black have no hue
  for function, amount, want in ((color.shift_hue, 0.3, hue), (color.saturate, 1.7, saturation)):
    got = jnp.stack(function(color.planes(images), jnp.float32(amount)), -1)
    np.testing.assert_allclose(got, pixelwise(want, images), atol=1e-5)


def test_contrast_keeps_each_channels_mean(images):
  changed = jnp.stack(color.contrast(color.planes(images), jnp.float32(0.5)), -1)
  np.testing.assert_allclose(changed.mean((1, 2)), images.mean((1, 2)), atol=1e-5)
  np.testing.assert_allclose(changed.std((1, 2)), images.std((1, 2)) / 2, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("brightness", ["multiply", "add"])
def test_jitter_of_no_strength_changes_nothing(images, brightness):
  amount = color.color_jitter(KEY, images, 0.0, p=1.0, brightness=brightness)
  np.testing.assert_allclose(amount, images, atol=1e-5)


@pytest.mark.slow
def test_jitter_is_drawn_per_example_and_as_often_as_said(images):
  same = jnp.tile(images[:1], (500, 1, 1, 1))
  changed = np.asarray(color.color_jitter(KEY, same, 1.0, p=0.8))
  moved = np.abs(changed - np.asarray(same)).max((1, 2, 3)) > 1e-4
  assert 0.74 < moved.mean() < 0.86
  assert len({c.tobytes() for c in changed[moved]}) == moved.sum()
  assert changed.min() >= 0
  assert changed.max() <= 1


def test_the_order_of_jitter_is_random():
  """Brightness to white before contrast loses all; after it, not: with one strength both must happen."""
  ramp = jnp.tile(jnp.linspace(0.6, 1, 16)[None, None, :, None], (300, 16, 1, 3))
  spread = np.asarray(color.color_jitter(KEY, ramp, 1.0, p=1.0)).std((1, 2, 3))
  assert (spread < 1e-3).any()
  assert (spread > 0.05).any()


def test_grayscale_has_one_channel_thrice(images):
  gray = np.asarray(color.grayscale(KEY, images, p=1.0))
  np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
  np.testing.assert_allclose(gray[..., 0], np.asarray(images) @ [0.2989, 0.587, 0.114], atol=1e-6)


@pytest.mark.slow
def test_equalize_and_solarize_equal_pillow(images):
  levels = (np.asarray(images) ** 2 * 255).astype(np.uint8)
  equalized = color.equalize(KEY, jnp.asarray(levels / 255.0), p=1.0)
  solarized = color.solarize(KEY, jnp.asarray(levels / 255.0), threshold=128 / 255, p=1.0)
  for e, s, x in zip(equalized, solarized, levels, strict=True):
    np.testing.assert_allclose(e * 255, np.asarray(ImageOps.equalize(Image.fromarray(x))), atol=1e-3)
    np.testing.assert_allclose(s * 255, np.asarray(ImageOps.solarize(Image.fromarray(x), 128)), atol=1e-3)


@pytest.mark.slow
def test_blur_is_the_sum_over_taps(images):
  deviation, radius = jnp.linspace(0.3, 2, 6), 3
  got = np.asarray(filters.blur(images, deviation, radius))
  x = np.pad(np.asarray(images), ((0, 0), (3, 3), (3, 3), (0, 0)))
  for i, s in enumerate(np.asarray(deviation)):
    taps = np.exp(-(np.arange(-3, 4) ** 2) / (2 * s * s))
    taps /= taps.sum()
    want = sum(taps[a] * taps[b] * x[i, a : a + 24, b : b + 24] for a in range(7) for b in range(7))
    np.testing.assert_allclose(got[i], want, atol=1e-5)


@pytest.mark.slow
def test_motion_blur_spreads_a_point_along_a_line():
  """The middle keeps at least a ninth of a point's light, nothing is lost, and directions differ."""
  point = jnp.zeros((200, 21, 21, 3)).at[:, 10, 10].set(1)
  lines = np.asarray(filters.motion_blur(KEY, point, 9, p=1.0))[..., 0]
  np.testing.assert_allclose(lines.sum((1, 2)), 1, rtol=1e-5)
  assert lines[:, 10, 10].min() >= 1 / 9 - 1e-6
  np.testing.assert_allclose(lines, lines[:, ::-1, ::-1], atol=1e-6)
  rows, columns = (lines.sum(axis) > 0 for axis in (2, 1))
  assert rows.sum(1).max() == columns.sum(1).max() == 9
  assert ((rows.sum(1) == 1) & (columns.sum(1) > 3)).any()
  np.testing.assert_allclose(filters.motion_blur(KEY, jnp.full((4, 8, 8, 3), 0.3)), 0.3, rtol=1e-5)
  with pytest.raises(ValueError, match="length = 4 of motion_blur; legal: odd"):
    filters.motion_blur(KEY, point, 4)


@pytest.mark.slow
def test_sobel_finds_edges():
  step = jnp.zeros((1, 8, 8, 3)).at[:, :, 4:].set(1)
  edges = np.asarray(filters.sobel(KEY, step))[0, :, :, 0]
  np.testing.assert_allclose(edges[:, [3, 4]], 1)
  np.testing.assert_allclose(np.delete(edges, [3, 4], 1), 0, atol=1e-5)


def test_noise_has_its_deviation():
  noisy = filters.gaussian_noise(KEY, jnp.full((4, 32, 32, 3), 0.5), 0.1)
  assert float(noisy.std()) == pytest.approx(0.1, rel=0.05)
  some = np.asarray(filters.gaussian_noise(KEY, jnp.full((200, 4, 4, 3), 0.5), 0.1, 0.3)).std((1, 2, 3)) > 0
  assert 0.2 < some.mean() < 0.4


@pytest.mark.slow
def test_built_steps_run_jitted_and_by_their_key(images):
  steps = [("random_resized_crop", 16, {"interpolation": "bilinear"}), ("flip_lr",), ("color_jitter", 0.5),
           ("grayscale",), ("gaussian_blur",)]  # fmt: skip
  run = jax.jit(build(steps))
  a, b, c = run(KEY, images), run(KEY, images), run(jax.random.key(1), images)
  assert a.shape == (6, 16, 16, 3)
  np.testing.assert_array_equal(a, b)
  assert not np.allclose(a, c)


@pytest.mark.parametrize(
  ("step", "message"),
  [
    (("color_jiter", 0.5), "augmentation 0: 'color_jiter'; did you mean 'color_jitter'"),
    (("flip_lr", 0.5, 3), "augmentation 0: flip_lr.*too many positional arguments"),
    (("cutout",), "augmentation 0: cutout.*missing a required argument: 'size'"),
    (("cutout", {"sise": 3}), "augmentation 0: cutout"),
  ],
)
def test_a_step_that_cannot_be_is_named(step, message):
  with pytest.raises(ValueError, match=message):
    build([step])
