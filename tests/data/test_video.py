"""Frames of animations and filmstrips, evenly or at a rate."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vljax.data import sources, transforms, video

COLORS = [(20 * i, 0, 0) for i in range(10)]


def gif(durations) -> bytes:
  frames = [Image.new("RGB", (6, 6), COLORS[i]) for i in range(len(durations))]
  file = io.BytesIO()
  frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations)
  return file.getvalue()


def reds(frames):
  return [int(np.asarray(frame)[0, 0, 0]) // 20 for frame in frames]


def take(example, *arguments, seed=0, **options):
  return reds(
    transforms.build([("clip", *arguments, options)])({"image": example}, np.random.default_rng(seed))["video"]
  )


def strip(count: int) -> np.ndarray:
  return np.concatenate([np.full((4, 4, 3), COLORS[i], np.uint8) for i in range(count)], axis=1)


def test_an_animation_says_when_its_frames_are_shown():
  frames, starts = video.read(gif([100, 300, 100, 500]))
  assert reds(frames) == [0, 1, 2, 3]
  np.testing.assert_allclose(starts, [0, 0.1, 0.4, 0.5, 1.0])


def test_a_filmstrip_is_cut_into_squares():
  frames, starts = video.read(strip(5))
  assert (reds(frames), starts) == ([0, 1, 2, 3, 4], None)
  assert video.read(strip(2), fps=4.0)[1] == [0, 0.25, 0.5]
  with pytest.raises(ValueError, match="a filmstrip of 6 x 4 pixels; legal: as wide as a number of squares"):
    video.read(np.zeros((4, 6, 3), np.uint8))


def test_frames_at_even_distances():
  assert take(strip(8), 8) == list(range(8))
  assert take(strip(8), 4) == [1, 3, 5, 7]
  assert take(strip(8), 1) == [4]
  assert take(strip(2), 4) == [0, 0, 1, 1]


def test_frames_at_a_rate():
  second = [1000] * 10
  assert take(gif(second), 3, 1.0, rule="middle") == [4, 5, 6]
  assert take(gif(second), 4, 2.0, rule="middle") == [4, 4, 5, 5]
  assert take(strip(10), 5, 0.5, fps=1.0, rule="middle") == [1, 3, 5, 7, 9]
  assert take(gif([1000, 1000]), 4, 1.0) == [0, 1, 1, 1]
  starts = {take(gif(second), 3, 1.0, seed=seed)[0] for seed in range(50)}
  assert starts == set(range(8))


@given(st.integers(1, 40), st.integers(1, 12), st.floats(0.1, 30), st.integers(0, 9))
def test_moments_are_frames_in_order(frames, count, rate, seed):
  starts = np.cumsum([0, *np.random.default_rng(seed).uniform(0.01, 1, frames)]).tolist()
  chosen = video.at_rate(starts, count, rate, np.random.default_rng(seed))
  assert len(chosen) == count
  assert chosen == sorted(chosen)
  assert chosen[0] >= 0
  assert chosen[-1] < frames
  assert video.evenly(frames, count) == sorted(video.evenly(frames, count))
  assert max(video.evenly(frames, count)) < frames


def test_a_list_of_pictures_needs_its_own_rate():
  frames = [np.full((4, 4, 3), color, np.uint8) for color in COLORS]
  assert take(frames, 10) == list(range(10))
  with pytest.raises(
    ValueError, match=r"rate = 1.0, but a list or filmstrip does not say its own rate; give it as fps="
  ):
    take(frames, 3, 1.0)


@pytest.mark.parametrize(
  ("options", "message"),
  [({"count": 0}, "count = 0; legal"), ({"rate": 0.0}, "rate = 0.0; legal"), ({"fps": -1.0}, "fps = -1.0; legal")],
)
def test_wrong_options(options, message):
  with pytest.raises(ValueError, match=message):
    transforms.build([("clip", options)])


def test_an_animation_that_is_cut_off():
  data = gif([100] * 8)
  with pytest.raises(ValueError, match="cannot be read"):
    video.read(data[: len(data) - 60])


def test_emoji(data_dir):
  where = f"pairs:{data_dir}/emoji_video?table=videos.jsonl&images=filmstrips_64x8.tar&image=video&caption=label.en"
  source = sources.open(where)
  steps = [("clip", 8), ("choose_caption",), ("pair", {"medium": "video"})]
  made = transforms.build(steps)(source[0], np.random.default_rng(0))
  assert made["items"][0] == 0
  assert made["items"][1].strip() == source[0]["captions"][0]
  assert [frame.size for frame in made["media"][0]] == [(64, 64)] * 8
