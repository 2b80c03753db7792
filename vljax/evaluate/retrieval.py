"""Image-text retrieval: recall@K both ways, several texts per image, memory bounded by the blocks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vljax.types import Array, Bool, Float, Int

BLOCK = (1024, 4096)
TIE = 1e-6


def recall(
  image_z: Float[Array | np.ndarray, "n d"],
  text_z: Float[Array | np.ndarray, "m d"],
  owner: Int[Array | np.ndarray, " m"] | None = None,
  ks: Sequence[int] = (1, 5, 10),
  block: tuple[int, int] = BLOCK,
) -> dict[str, float]:
  """Recall@K, its chance, and the median rank, image to text and text to image.

  R@K from image to text is the share of images with *any* of their texts among the K nearest texts (CLIP, arXiv
  2103.00020; Flickr30k and COCO are reported so); from text to image, of texts whose image is among the K nearest
  images. Images without a text are distractors only.

  Args:
    image_z, text_z: compared by inner product; unit vectors make that the cosine.
    owner: the index of each text's image; None means text i belongs to image i.
    block: images and texts per block; the scores held at once are block[0] x block[1].

  Returns:
    `image_to_text/R@1`, `image_to_text/R@1/chance`, ..., `image_to_text/median_rank`, the same for `text_to_image`.

  Raises:
    ValueError: shapes that do not fit, an owner that is no image's index, a K below 1.
  """
  if min(ks) < 1:
    raise ValueError(f"recall@K needs K of at least 1; found {tuple(ks)}")
  image_z, text_z, owner = _checked(image_z, text_z, owner)
  by_image, by_text = ranks(image_z, text_z, owner, block)
  texts_of = np.bincount(owner, minlength=len(image_z))
  by_image, texts_of = by_image[texts_of > 0], texts_of[texts_of > 0]
  results: dict[str, float] = {}
  for k in ks:
    results[f"image_to_text/R@{k}"] = float(np.mean(by_image <= k))
    results[f"image_to_text/R@{k}/chance"] = float(np.mean(chance(len(text_z), texts_of, k)))
    results[f"text_to_image/R@{k}"] = float(np.mean(by_text <= k))
    results[f"text_to_image/R@{k}/chance"] = min(1.0, k / len(image_z))
  results["image_to_text/median_rank"] = float(np.median(by_image))
  results["text_to_image/median_rank"] = float(np.median(by_text))
  return results


def ranks(
  image_z: Float[Array | np.ndarray, "n d"],
  text_z: Float[Array | np.ndarray, "m d"],
  owner: Int[Array | np.ndarray, " m"] | None = None,
  block: tuple[int, int] = BLOCK,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
  """For each image the rank of its best text, for each text the rank of its image; 1 is the best.

  The rank is one plus the number of wrong candidates that score at least as high as the right one: ties are counted
  against us, so a model that maps everything to one point gets the worst rank, not the best. Scores closer than 1e-6
  of the largest product of norms are tied, since float32 tells them no further apart; what is not a number beats us
  too. One product per block serves both directions. The rank of an image without a text is m + 1.
  """
  image_z, text_z, owner = _checked(image_z, text_z, owner)
  right = np.nan_to_num(np.einsum("md,md->m", image_z[owner], text_z), nan=-np.inf)
  best = np.full(len(image_z), -np.inf, np.float32)
  np.maximum.at(best, owner, right)
  margin = TIE * np.linalg.norm(image_z, axis=1).max() * np.linalg.norm(text_z, axis=1).max()
  rows, columns = (min(b, n) for b, n in zip(block, (len(image_z), len(text_z)), strict=True))
  index = np.arange(len(image_z), dtype=np.int32)
  images = list(zip(_blocks(image_z, rows), _blocks(best - margin, rows), _blocks(index, rows, -1), strict=True))
  above_image = np.zeros((len(images), rows), np.int64)
  above_text = []
  for part in zip(
    _blocks(text_z, columns), _blocks(right - margin, columns), _blocks(owner, columns, -1), strict=True
  ):
    total = 0
    for i, image_part in enumerate(images):
      of_image, of_text = _count(image_part, part)
      above_image[i] += np.asarray(of_image)
      total = total + of_text
    above_text.append(np.asarray(total))
  by_image = 1 + above_image.reshape(-1)[: len(image_z)]
  by_text = 1 + np.concatenate(above_text)[: len(text_z)].astype(np.int64)
  by_image[~np.isfinite(best)] = len(text_z) + 1
  return by_image, by_text


def chance(candidates: int, right: Int[np.ndarray, " n"], k: int) -> Float[np.ndarray, " n"]:
  """The probability that k candidates drawn without return hold any of the right ones.

  1 - prod_{i<k} (m - c - i) / (m - i) for c right ones among m.
  """
  drawn = np.arange(min(k, candidates))
  miss = np.clip(candidates - np.asarray(right)[:, None] - drawn, 0, None) / (candidates - drawn)
  return 1.0 - miss.prod(axis=1)


@jax.jit
def _count(
  images: tuple[Float[Array, "n d"], Float[Array, " n"], Int[Array, " n"]],
  texts: tuple[Float[Array, "m d"], Float[Array, " m"], Int[Array, " m"]],
) -> tuple[Int[Array, " n"], Int[Array, " m"]]:
  """How many wrong texts beat each image's best, and how many wrong images beat each text's own."""
  (image_z, best, index), (text_z, right, owner) = images, texts
  scores = jnp.einsum("nd,md->nm", image_z, text_z, precision=jax.lax.Precision.HIGHEST)
  wrong: Bool[Array, "n m"] = (index[:, None] != owner) & (index[:, None] >= 0) & (owner >= 0)
  return (wrong & ~(scores < best[:, None])).sum(1), (wrong & ~(scores < right)).sum(0)


def _blocks(x: np.ndarray, size: int, fill: int = 0):
  for first in range(0, len(x), size):
    part = x[first : first + size]
    yield np.pad(part, [(0, size - len(part))] + [(0, 0)] * (x.ndim - 1), constant_values=fill)


def _checked(image_z, text_z, owner) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  image_z, text_z = np.asarray(image_z, np.float32), np.asarray(text_z, np.float32)
  if image_z.ndim != 2 or text_z.ndim != 2 or image_z.shape[1] != text_z.shape[1] or not image_z.size * text_z.size:
    raise ValueError(f"retrieval needs images [n d] and texts [m d]; found {image_z.shape} and {text_z.shape}")
  if owner is None and len(image_z) != len(text_z):
    raise ValueError(f"{len(image_z)} images and {len(text_z)} texts need an owner: each text's image index")
  owner = np.arange(len(image_z)) if owner is None else np.asarray(owner)
  if owner.shape != (len(text_z),) or not np.issubdtype(owner.dtype, np.integer):
    raise ValueError(f"owner must hold one integer for each of {len(text_z)} texts; found {owner.dtype}{owner.shape}")
  if owner.min() < 0 or owner.max() >= len(image_z):
    raise ValueError(f"owner holds {owner.min()} to {owner.max()}; legal: 0 to {len(image_z) - 1}")
  return image_z, text_z, owner.astype(np.int32)
