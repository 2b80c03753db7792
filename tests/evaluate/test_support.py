"""Examples of a task and the choice of those that a prompt shows."""

import numpy as np
import pytest

from vljax.data import sources
from vljax.evaluate.support import AtRandom, Examples, Nearest, describe, over_frames


@pytest.fixture(scope="module")
def examples():
  return Examples(sources.open("synthetic:pairs?n=60&size=8"), answer="shape", fields=("color",))


def test_examples_are_opened_one_by_one(examples):
  assert len(examples) == 60
  example, told = examples[3], examples.told(3)
  assert example.key == told.key == "0-3"
  assert example.media[0].shape == (8, 8, 3)
  assert told.media == ()
  assert example.fields == told.fields == {"color": sources.open("synthetic:pairs?n=60&size=8").row(3)["color"]}
  assert [e.key for e in examples[10:12]] == ["0-10", "0-11"]


def test_several_answers():
  captions = Examples(sources.open("synthetic:pairs?n=4&size=8"))
  assert len(captions[0].answers) == 2


def test_a_subset_is_drawn_once(examples):
  some = examples.subset(20, seed=1)
  assert [e.key for e in some] == [e.key for e in examples.subset(20, seed=1)]
  assert [e.key for e in some] != [e.key for e in examples.subset(20, seed=2)]
  assert len(examples.subset(99)) == 60
  assert describe(some) == {"source": "synthetic:pairs", "count": 20, "subset": 20, "subset_seed": 1}
  assert describe([1, 2]) == {"count": 2}


def test_so_many_of_each_class(examples):
  some = examples.per_class(2)
  shapes = [e.answers[0] for e in some]
  assert sorted(shapes) == sorted(2 * list(set(shapes)))
  assert len(set(shapes)) == 6
  assert describe(some.subset(5))["per_class"] == 2


def test_clips_are_means_over_their_frames():
  asked = []

  def encode_image(pictures):
    asked.append(len(pictures))
    return np.stack([[picture.mean(), 1.0] for picture in pictures])

  a, b, c = (np.full((2, 2, 3), x, np.uint8) for x in (0, 3, 6))
  z = over_frames(encode_image)([[a, c, b], b, np.stack([a, b])])
  assert asked == [6]
  wanted = np.array([[3.0, 1.0], [3.0, 1.0], [1.5, 1.0]])
  np.testing.assert_allclose(z, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), rtol=1e-6)


def test_few_examples_are_encoded_without_filling(examples):
  asked = []
  z = examples.only(np.arange(5)).encode(lambda media: asked.append(len(media)) or np.ones((len(media), 2)))
  assert (asked, z.shape) == ([5], (5, 2))


def test_random_choice_follows_from_seed_and_query():
  choose = AtRandom(50, seed=3)
  assert choose(7, 8) == AtRandom(50, seed=3)(7, 8)
  assert choose(7, 8) != choose(8, 8)
  assert len(set(choose(7, 32))) == 32
  assert choose(7, 4) == choose(7, 8)[:4]
  assert choose.settings == {"retrieval": "random", "seed": 3}
  with pytest.raises(ValueError, match="shots = 51; legal: 0 to 50, the size of the support set"):
    choose(0, 51)


def test_the_nearest_comes_last():
  rng = np.random.default_rng(0)
  support, query = rng.normal(size=(30, 5)), rng.normal(size=(4, 5))
  choose = Nearest(7 * query, support)
  cosine = (query @ support.T) / np.linalg.norm(support, axis=1)
  for i in range(4):
    assert choose(i, 4) == np.argsort(cosine[i])[-4:].tolist()
  assert choose(0, 0) == []
  assert choose.settings == {"retrieval": "rices"}


def test_features_of_media(examples):
  z = examples.encode(lambda media: np.stack([m.mean((0, 1)) for m in media]), batch=7)
  assert z.shape == (60, 3)
  np.testing.assert_allclose(z[9], examples[9].media[0].mean((0, 1)))


def test_clips(data_dir):
  where = f"pairs:{data_dir}/emoji_video?table=videos.jsonl&images=filmstrips_64x8.tar&image=video"
  clips = Examples(sources.open(where), "label.en", steps=[("clip", 4)], medium="video")
  assert [frame.size for frame in clips[0].media[0]] == [(64, 64)] * 4
  assert clips[0].answers == ("cyclone",)


def test_steps_that_make_no_medium():
  with pytest.raises(ValueError, match="the steps make no 'video' of '0-0', but"):
    _ = Examples(sources.open("synthetic:pairs?n=4&size=8"), medium="video")[0]
