"""Recall@K against brute force, its chance against drawing, its memory by construction."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax.evaluate import retrieval


def brute(image_z, text_z, owner):
  """Ranks from the whole matrix, one candidate at a time."""
  scores = image_z @ text_z.T
  by_image = []
  for i in range(len(image_z)):
    own = scores[i, owner == i]
    by_image.append(1 + int(np.sum(scores[i, owner != i] >= own.max())) if own.size else len(text_z) + 1)
  others = np.arange(len(image_z))
  by_text = [1 + int(np.sum(scores[others != o, j] >= scores[o, j])) for j, o in enumerate(owner)]
  return np.array(by_image), np.array(by_text)


@st.composite
def galleries(draw):
  n, m, d = draw(st.integers(1, 9)), draw(st.integers(1, 15)), draw(st.integers(1, 4))
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  ints = lambda rows: rng.integers(-2, 3, (rows, d)).astype(np.float32)
  return ints(n), ints(m), rng.integers(0, n, m)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(galleries(), st.sampled_from([(4, 4), (3, 5), (16, 16)]))
def test_ranks_equal_brute_force_with_ties(gallery, block):
  image_z, text_z, owner = gallery
  found = retrieval.ranks(image_z, text_z, owner, block)
  expected = brute(image_z, text_z, owner)
  np.testing.assert_array_equal(found[0], expected[0])
  np.testing.assert_array_equal(found[1], expected[1])


def test_recall_of_random_unit_vectors_equals_brute_force():
  rng = np.random.default_rng(0)
  unit = lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
  image_z = unit(rng.normal(size=(70, 16)))
  owner = rng.permutation(np.repeat(np.arange(70), 5))
  text_z = unit(image_z[owner] + rng.normal(size=(350, 16)))
  found = retrieval.recall(image_z, text_z, owner, block=(32, 64))
  by_image, by_text = brute(image_z, text_z, owner)
  for k in (1, 5, 10):
    assert found[f"image_to_text/R@{k}"] == pytest.approx(np.mean(by_image <= k))
    assert found[f"text_to_image/R@{k}"] == pytest.approx(np.mean(by_text <= k))
    assert found[f"text_to_image/R@{k}/chance"] == pytest.approx(k / 70)
  assert found["image_to_text/median_rank"] == np.median(by_image)
  assert found["text_to_image/median_rank"] == np.median(by_text)


def test_any_caption_of_the_image_is_a_hit():
  image_z = np.eye(2, dtype=np.float32)
  text_z = np.array([[1, 0], [-1, 0], [0, 1], [0.9, 0]], np.float32)
  found = retrieval.recall(image_z, text_z, np.array([0, 0, 1, 1]), ks=(1,))
  assert found["image_to_text/R@1"] == 1.0
  assert found["text_to_image/R@1"] == 0.5


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_a_collapsed_model_gets_nothing(value):
  found = retrieval.recall(np.full((6, 3), value), np.full((6, 3), value), ks=(1, 5))
  assert found["image_to_text/R@5"] == found["text_to_image/R@5"] == 0.0


def test_images_without_text_are_distractors_only():
  image_z = np.array([[1, 0], [0, 1], [0.9, 0.1]], np.float32)
  found = retrieval.recall(image_z, image_z[:2], np.array([0, 1]), ks=(1,))
  assert found["image_to_text/R@1"] == 1.0
  assert found["text_to_image/R@1/chance"] == pytest.approx(1 / 3)


def test_chance_is_that_of_drawing():
  rng = np.random.default_rng(0)
  drawn = np.mean([bool(set(rng.choice(20, 5, replace=False)) & {0, 1, 2}) for _ in range(4000)])
  assert retrieval.chance(20, np.array([3]), 5)[0] == pytest.approx(drawn, abs=0.03)
  assert retrieval.chance(500, np.array([1]), 10)[0] == pytest.approx(0.02)
  assert retrieval.chance(4, np.array([2]), 10)[0] == 1.0


def test_the_scores_of_10k_by_50k_never_exist_at_once(monkeypatch):
  """Every array of the one compiled program is bounded by the block; the loop sees the whole gallery."""
  shapes, count = [], retrieval._count

  def spy(images, texts):
    shapes.append((images[0].shape, texts[0].shape))
    return np.zeros(len(images[1]), np.int32), np.zeros(len(texts[1]), np.int32)

  monkeypatch.setattr(retrieval, "_count", spy)
  owner = np.repeat(np.arange(10_000), 5)
  retrieval.ranks(np.ones((10_000, 4)), np.ones((50_000, 4)), owner, block=(1024, 4096))
  assert set(shapes) == {((1024, 4), (4096, 4))}
  assert len(shapes) == 10 * 13
  part = lambda n: (
    jax.ShapeDtypeStruct((n, 4), np.float32),
    jax.ShapeDtypeStruct((n,), np.float32),
    jax.ShapeDtypeStruct((n,), np.int32),
  )
  memory = count.lower(part(1024), part(4096)).compile().memory_analysis()
  assert memory.temp_size_in_bytes <= 4 * 4 * 1024 * 4096


@pytest.mark.parametrize(
  ("image_z", "text_z", "owner", "message"),
  [
    (np.ones((2, 3)), np.ones((2, 4)), None, r"retrieval needs images \[n d\] and texts \[m d\]"),
    (np.ones((2, 3)), np.ones((4, 3)), None, "2 images and 4 texts need an owner"),
    (np.ones((2, 3)), np.ones((2, 3)), np.array([0, 2]), "owner holds 0 to 2; legal: 0 to 1"),
    (np.ones((2, 3)), np.ones((2, 3)), np.array([0.0, 1.0]), "owner must hold one integer for each of 2 texts"),
  ],
)
def test_bad_input_is_named(image_z, text_z, owner, message):
  with pytest.raises(ValueError, match=message):
    retrieval.recall(image_z, text_z, owner)


def test_k_below_one_is_named():
  with pytest.raises(ValueError, match="K of at least 1"):
    retrieval.recall(np.ones((2, 3)), np.ones((2, 3)), ks=(0, 1))
