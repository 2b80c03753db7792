"""Decoding: color modes, orientation, damaged files."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vljax.data import decode

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
  image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_formats(kind):
  made = decode.decode(encode(PIXELS, kind, **({"lossless": True} if kind == "WEBP" else {})))
  assert made.dtype == np.uint8
  assert made.shape == (12, 17, 3)
  assert made.flags.writeable
  if kind != "GIF":
    assert np.array_equal(made, PIXELS)


def test_jpeg_equals_pil():
  data = encode(PIXELS, "JPEG")
  assert np.array_equal(decode.decode(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_modes_follow_pil(mode):
  data = encode(Image.fromarray(PIXELS).convert(mode), "TIFF" if mode in ("CMYK",) else "PNG")
  assert np.array_equal(decode.decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize(("dtype", "kind"), [("<u2", "PNG"), ("<u2", "TIFF"), (">u2", "TIFF"), ("i4", "TIFF")])
def test_sixteen_bits_become_eight(dtype, kind):
  data = encode(PIXELS[..., 0].astype(dtype) * 257, kind)
  assert np.array_equal(decode.decode(data), np.repeat(PIXELS[..., :1], 3, -1))
  assert decode.decode(encode(np.uint16([[0, 128, 129, 65_406, 65_407]])))[0, :, 0].tolist() == [0, 0, 1, 254, 255]


@pytest.mark.parametrize(
  ("values", "found"),
  [(np.float32([[0, 0.5]]), "F, from 0.0 to 0.5"), (np.int32([[-1, 70_000]]), "I, from -1 to 70000")],
)
def test_deeper_pictures_are_refused(values, found):
  with pytest.raises(ValueError, match=f"an image is of mode {found}; legal: pictures of 8 or 16 bits"):
    decode.decode(encode(values, "TIFF"))


def test_transparency():
  clear = np.concatenate([np.full((4, 4, 3), 200, np.uint8), np.zeros((4, 4, 1), np.uint8)], -1)
  assert (decode.decode(encode(clear)) == 200).all(), "CLIP's rule shows the hidden color"
  assert (decode.decode(encode(clear), background=(1, 2, 3)) == [1, 2, 3]).all()
  half = clear.copy()
  half[..., 3] = 128
  assert np.allclose(decode.decode(encode(half), background=(0, 0, 0)), 100, atol=1)


def test_transparent_palettes_and_color_keys():
  palette = Image.new("P", (4, 4), 1)
  palette.putpalette([0, 0, 0, 9, 8, 7])
  data = encode(palette, transparency=b"\xff\x00")
  assert (decode.decode(data) == [9, 8, 7]).all()
  assert (decode.decode(data, background=(255, 255, 255)) == 255).all()
  keyed = encode(Image.new("RGB", (4, 4), (5, 5, 5)), transparency=(5, 5, 5))
  assert (decode.decode(keyed) == 5).all()
  assert (decode.decode(keyed, background=(255, 255, 255)) == 255).all()


def test_orientation_is_ignored_unless_asked_for():
  exif = Image.Exif()
  exif[0x0112] = 6
  data = encode(PIXELS, "JPEG", exif=exif)
  assert decode.decode(data).shape == (12, 17, 3)
  assert decode.decode(data, exif=True).shape == (17, 12, 3)


def test_arrays_and_images_pass():
  assert np.array_equal(decode.to_array(decode.open_rgb(PIXELS)), PIXELS)
  assert decode.to_array(decode.open_rgb(PIXELS[..., 0])).shape == (12, 17, 3)
  assert decode.to_array(decode.open_rgb(PIXELS[..., :1])).shape == (12, 17, 3)
  assert np.array_equal(decode.to_array(decode.open_rgb(PIXELS[:, ::-1])), PIXELS[:, ::-1])


@pytest.mark.parametrize(
  ("value", "message"),
  [
    (b"", "an image has 0 bytes"),
    (b"hello world", r"11 bytes beginning b'hello wo' are not an image: no known format"),
    (PIXELS.astype(np.float32), r"an image array is float32\[12, 17, 3\]; legal: uint8"),
    (PIXELS[..., :2], r"an image array is uint8\[12, 17, 2\]"),
    ("dog.jpg", "an image is of type str; legal: encoded bytes"),
  ],
)
def test_what_is_no_image(value, message):
  with pytest.raises(ValueError, match=message):
    decode.open_rgb(value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_file_names_the_cause(kind):
  data = encode(RNG.integers(0, 256, (90, 90, 3), dtype=np.uint8), kind)
  with pytest.raises(ValueError, match=rf"the {kind} image of 90 x 90 cannot be read: OSError: .*truncated"):
    decode.decode(data[: len(data) // 2])


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP"]), st.data())
def test_damaged_files_are_value_errors_or_pixels(kind, data):
  whole = bytearray(encode(PIXELS, kind))
  for _ in range(data.draw(st.integers(1, 8))):
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
  whole = bytes(whole[: data.draw(st.integers(0, len(whole)))])
  try:
    made = decode.decode(whole)
  except ValueError:
    return
  assert made.dtype == np.uint8
  assert made.shape[-1] == 3
