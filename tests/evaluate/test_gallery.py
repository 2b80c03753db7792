"""A dual encoder's evaluations on a source, with predict functions that are lookups."""

import numpy as np
import pytest

from vljax.evaluate.gallery import FeatureGallery, Gallery

COLORS = (10, 90, 200)


class Solid:
  """Pictures of one value each, two captions, two classes."""

  name, classes = "solid", ["dark", "light"]

  def __len__(self):
    return len(COLORS)

  def row(self, index):
    captions = [f"value {COLORS[index]}", f"a {COLORS[index]} picture"]
    return {"key": str(index), "captions": captions, "label": int(COLORS[index] > 128)}

  def __getitem__(self, index):
    return self.row(index) | {"image": np.full((2, 2, 3), COLORS[index], np.uint8)}


def circle(values):
  angles = np.asarray(values, float) / 255 * np.pi
  return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def read(texts):
  """The number in a text; dark and light where there is none."""
  named = {"dark": 0, "light": 255}
  words = [text.strip(".").split() for text in texts]
  return np.array([next(named.get(w, w) for w in line if w.isdigit() or w in named) for line in words], int)[:, None]


@pytest.fixture
def gallery():
  return Gallery(Solid(), lambda example, rng: example, read, batch=2)


PREDICT = {
  "encode_image": lambda params, image: circle(image[:, 0, 0, 0]),
  "encode_text": lambda params, tokens: circle(tokens[:, 0] + params),
}


def test_captions_know_their_picture(gallery):
  texts, owner = gallery.captions()
  assert texts[2] == "value 90"
  np.testing.assert_array_equal(owner, [0, 0, 1, 1, 2, 2])


class EachCaption(Solid):
  """The same with a row for each caption; the last picture has a key that another one has, too."""

  def __len__(self):
    return 2 * super().__len__()

  def row(self, index):
    row = super().row(index // 2)
    return row | {"key": "1" if index > 3 else row["key"], "captions": [row["captions"][index % 2]]}

  def __getitem__(self, index):
    return self.row(index) | {"image": super().__getitem__(index // 2)["image"]}


@pytest.mark.slow
def test_a_row_for_each_caption_is_the_same_gallery(gallery):
  each = Gallery(EachCaption(), lambda example, rng: example, read, batch=2)
  assert each.captions()[0] == gallery.captions()[0]
  np.testing.assert_array_equal(each.captions()[1], gallery.captions()[1])
  assert each.retrieval(PREDICT, 0) == gallery.retrieval(PREDICT, 0)
  assert len(each.encode_images(PREDICT, 0)) == 6


@pytest.mark.slow
def test_features_of_a_row_for_each_caption():
  rows = [
    {"key": str(i), "image_features": circle([c])[0], "text_features": circle([c, c])} for i, c in enumerate(COLORS)
  ]
  each = [row | {"text_features": row["text_features"][:1]} for row in rows for _ in range(2)]
  project = dict.fromkeys(("project_image", "project_text"), lambda params, z: z)
  assert FeatureGallery(each).retrieval(project, 0) == FeatureGallery(rows).retrieval(project, 0)


@pytest.mark.slow
def test_retrieval_reads_the_parameters(gallery):
  right = gallery.retrieval(PREDICT, 0)
  assert right["image_to_text/R@1"] == right["text_to_image/R@1"] == 1.0
  assert gallery.retrieval(PREDICT, 100)["text_to_image/R@1"] < 1.0


def test_zero_shot_uses_the_classes_of_the_source(gallery):
  assert gallery.zeroshot(PREDICT, 0)["top1"] == 1.0


def test_prompts_read_the_classes_as_words(gallery, monkeypatch):
  monkeypatch.setattr(Solid, "classes", ["very_dark", "light-colored"])
  seen = []
  encode = lambda params, texts: seen.extend(texts) or np.eye(len(texts), 2)
  Gallery(Solid(), gallery.transform, list).zeroshot(PREDICT | {"encode_text": encode}, 0)
  assert seen == ["a photo of a very dark.", "a photo of a light colored."]


def test_a_source_without_classes_is_named(gallery):
  gallery.source.classes = None
  with pytest.raises(ValueError, match="zero-shot classification needs classes; solid has none"):
    gallery.zeroshot(PREDICT, 0)


def test_a_picture_without_a_class_is_named(gallery, monkeypatch):
  monkeypatch.setattr(Solid, "row", lambda self, index: {"key": f"p{index}", "label": None if index else 0})
  with pytest.raises(ValueError, match="solid: 'p1' has no class; legal: a number as its field 'label'"):
    gallery.zeroshot(PREDICT, 0)


def test_a_source_without_captions_is_named(gallery, monkeypatch):
  monkeypatch.setattr(Solid, "row", lambda self, index: {"label": 0})
  with pytest.raises(ValueError, match="retrieval needs captions; solid has none"):
    gallery.retrieval(PREDICT, 0)


class Broken(Solid):
  """The second picture cannot be read."""

  def __getitem__(self, index):
    if index == 1:
      raise ValueError("truncated")
    return super().__getitem__(index)


def test_broken_examples_are_left_out_and_named(gallery, caplog):
  broken = Gallery(Broken(), gallery.transform, gallery.tokenizer, batch=2)
  assert broken.usable == (0, 2)
  assert "solid: number 1 is left out of the evaluation: truncated" in caplog.text
  texts, owner = broken.captions()
  assert texts == ["value 10", "a 10 picture", "value 200", "a 200 picture"]
  np.testing.assert_array_equal(owner, [0, 0, 1, 1])
  assert broken.retrieval(PREDICT, 0)["text_to_image/R@1"] == 1.0
  assert broken.zeroshot(PREDICT, 0)["top1"] == 1.0


def test_a_source_that_is_broken_throughout_raises(gallery, monkeypatch):
  monkeypatch.setattr(Broken, "__getitem__", lambda self, index: {}["image"])
  with pytest.raises(ValueError, match="no example of solid can be read; the last error: 'image'"):
    Gallery(Broken(), gallery.transform, gallery.tokenizer).retrieval(PREDICT, 0)
