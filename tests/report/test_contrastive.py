"""What a contrastive run's report finds: names, answers, numbers."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from vljax import report
from vljax.report import contrastive


def test_names_answers_and_numbers(workdir, examples, encoders, nasty):
  page = report.build(
    "t", "c", examples=examples, queries=["typed", nasty], metrics=workdir, shown=4, nearest=3, per_query=2, **encoders
  )
  assert len(page.pictures) == 4
  for picture in page.pictures:
    assert len(picture.names) == 3
    assert picture.names[0] == picture.truth[0]
  np.testing.assert_array_equal(page.queries[0].images[0], examples[-1]["image"])
  np.testing.assert_array_equal(page.queries[1].images[0], examples[0]["image"])
  assert page.scores == (report.Score("image → text R@10", 0.5, 0.1), report.Score("image → text median rank", 4.0))
  assert page.seconds == 60.0
  assert len(page.loss.values) == 29
  assert page.curves == (report.Curve("image → text R@10", (10, 20, 30), (10 / 60, 20 / 60, 0.5)),)
  assert re.search(r"cores of .+, jax \d", page.machine)


def test_a_run_without_metrics_has_pictures_only(examples, encoders):
  page = report.build("t", "c", examples=examples, seconds=3.0, **encoders)
  assert (page.scores, page.loss, page.curves, page.queries, page.seconds) == ((), None, (), (), 3.0)
  assert len(page.pictures) == 9


def test_encoded_pictures_are_decoded_and_shown_small(encoders):
  file = io.BytesIO()
  Image.new("RGB", (640, 320), "red").save(file, format="PNG")
  seen = []
  encode_image = lambda batch: seen.append(batch[0].shape) or np.ones((len(batch), 8))
  options = {**encoders, "encode_image": encode_image}
  page = report.build("t", "c", examples=[{"image": file.getvalue(), "captions": ["x"]}], **options)
  assert seen == [(320, 640, 3)]
  assert page.pictures[0].image.shape == (80, 160, 3)
  assert page.pictures[0].image.dtype == np.uint8


def test_scores_of_two_evaluations_keep_their_names():
  rows = [{"step": 1, "a/x/R@1": 0.5, "a/x/R@1/chance": 0.1, "b/x/R@1": 0.25, "b/x/R@1/chance": 0.1, "c": None}]
  assert [score.name for score in contrastive.scores(rows)] == ["a x R@1", "b x R@1"]


def test_bad_examples_are_named(encoders):
  build = lambda **example: report.build("t", "c", examples=[example], **encoders)
  with pytest.raises(ValueError, match=r"example 0 of the report needs an image and captions; it has \['image'\]"):
    build(image=np.zeros((2, 2, 3), np.uint8))
  with pytest.raises(ValueError, match="0 bytes"):
    build(image=b"", captions=["x"])
  with pytest.raises(ValueError, match="nothing to encode"):
    report.build("t", "c", examples=[], **encoders)
