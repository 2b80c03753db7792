"""Encoded images to RGB.

Two rules follow CLIP's own preprocessing: the EXIF orientation is ignored (`exif=True` applies it), and transparency
is dropped by PIL's `convert("RGB")`, which shows whatever color lies under it (`background=(r, g, b)` composes the
image over a color instead). One does not: a picture of 16 bits is divided by 257, where PIL's conversion clips at 255.
"""

import io

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageFile, ImageOps

Picture = bytes | np.ndarray | Image.Image
"""What a source may hold: an encoded file, uint8 [h w] or [h w c], or a PIL image."""

DEEPEST = 65_535
"""White in 16 bits."""


def decode(
  data: bytes, background: tuple[int, int, int] | None = None, exif: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
  """The pixels of an encoded image (JPEG, PNG, WebP, GIF's first frame, whatever PIL reads).

  Raises:
    ValueError: not an image, or a truncated or damaged one; the message has PIL's reason.
  """
  return to_array(open_rgb(data, background, exif))


def open_rgb(picture: Picture, background: tuple[int, int, int] | None = None, exif: bool = False) -> Image.Image:
  """An RGB image; an RGB JPEG is read only when its pixels are asked for, so that a crop may decode less of it.

  Raises:
    ValueError: as `decode`; for a lazy JPEG damage shows in `load`.
  """
  image = open_any(picture)
  if exif and image.getexif().get(0x0112, 1) != 1:
    image = ImageOps.exif_transpose(load(image))
  opaque = background is None or "transparency" not in image.info
  return image if image.mode == "RGB" and opaque else to_rgb(load(image), background)


def open_any(picture: Picture) -> Image.Image:
  """An image in its own color mode, not yet read if it was encoded."""
  if isinstance(picture, Image.Image):
    return picture
  if isinstance(picture, np.ndarray):
    return _from_array(picture)
  if not isinstance(picture, bytes | bytearray | memoryview):
    raise ValueError(f"an image is of type {type(picture).__name__}; legal: encoded bytes, uint8 array, PIL image")
  if not len(picture):
    raise ValueError("an image has 0 bytes")
  try:
    return Image.open(io.BytesIO(picture))
  except Exception as error:
    raise ValueError(
      f"{len(picture)} bytes beginning {bytes(picture[:8])!r} are not an image: {_why(error)}"
    ) from error


def load(image: Image.Image) -> Image.Image:
  """Reads the pixels of an opened image.

  Raises:
    ValueError: they are truncated or damaged. Damaged files make PIL raise almost anything; all of it is this.
  """
  try:
    image.load()
  except Exception as error:
    raise ValueError(
      f"the {image.format} image of {image.width} x {image.height} cannot be read: {_why(error)}"
    ) from error
  return image


def to_rgb(image: Image.Image, background: tuple[int, int, int] | None = None) -> Image.Image:
  """PIL's conversion, which drops an alpha channel, or the image over a background color; of 16 bits as of 8.

  Raises:
    ValueError: as `eight_bits`.
  """
  image = eight_bits(image)
  transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
  if transparent and image.mode != "RGBA":
    image = image.convert("RGBA")
  if not transparent or background is None:
    return image.convert("RGB")
  below = Image.new("RGBA", image.size, (*background, 255))
  return Image.alpha_composite(below, image).convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
  """A loaded picture of 16 bits as one of 8, any other as it is.

  Raises:
    ValueError: its pixels are floats, or integers beyond 16 bits.
  """
  if not _is_deep(image):
    return image
  return Image.fromarray(np.rint(levels(image) * 255).astype(np.uint8))


def levels(image: Image.Image, name: str = "an image") -> Float32[np.ndarray, "h w"]:
  """The gray of a loaded picture of 8 or 16 bits, from black at 0 to white at 1.

  Raises:
    ValueError: its pixels are floats, or integers beyond 16 bits; it is called `name`.
  """
  if not _is_deep(image):
    return np.asarray(image.convert("L"), np.float32) / 255
  values = np.asarray(image)
  low, high = values.min(), values.max()
  if image.mode == "F" or low < 0 or high > DEEPEST:
    raise ValueError(f"{name} is of mode {image.mode}, from {low} to {high}; legal: pictures of 8 or 16 bits")
  return values.astype(np.float32) / DEEPEST


def to_array(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
  """The pixels of an RGB image, of any other mode after `to_rgb`."""
  return np.array(to_rgb(load(image)) if image.mode != "RGB" else load(image))


def is_lazy_jpeg(image: Image.Image) -> bool:
  """True if the pixels are still encoded and can be decoded at a fraction of their size."""
  return isinstance(image, ImageFile.ImageFile) and image.format == "JPEG" and bool(image.tile)


def _is_deep(image: Image.Image) -> bool:
  return image.mode.startswith(("I", "F"))


def _from_array(array: np.ndarray) -> Image.Image:
  flat = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
  if array.dtype != np.uint8 or flat.ndim not in (2, 3) or (flat.ndim == 3 and flat.shape[-1] not in (3, 4)):
    raise ValueError(
      f"an image array is {array.dtype}{list(array.shape)}; legal: uint8 [h w], [h w 1], [h w 3], [h w 4]"
    )
  return Image.fromarray(np.ascontiguousarray(flat))


def _why(error: Exception) -> str:
  if isinstance(error, Image.UnidentifiedImageError):
    return "no known format"
  return f"{type(error).__name__}: {error}"
