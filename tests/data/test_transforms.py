"""Pipelines from tuples: what they do, what they refuse, when they are random."""

import io
import pickle

import ml_collections
import numpy as np
import pytest
from PIL import Image

from vljax.data import audio, captions, tokenizers, transforms
from vljax.data.tokenizers import train_sentencepiece

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
TRAIN = [
  ("decode",),
  ("random_resized_crop", 16, (0.5, 1.0)),
  ("flip_lr",),
  ("choose_caption", "random"),
  ("tokenize",),
  ("keep", "image", "tokens"),
]


def jpeg(pixels=PIXELS) -> bytes:
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "JPEG")
  return file.getvalue()


@pytest.fixture(scope="module")
def spm() -> tokenizers.Tokenizer:
  return train_sentencepiece(
    [f"a {a} and a {b}" for a in ("dog", "cat", "cow") for b in ("pen", "cup", "box")], 275, length=8
  )


@pytest.fixture
def example():
  return {"key": "k", "image": jpeg(), "captions": ["a dog", "a cat and a cup"], "label": 3}


def test_a_training_pipeline(spm, example):
  run = transforms.build(TRAIN, spm)
  made = run(example, np.random.default_rng(0))
  assert sorted(made) == ["image", "tokens"]
  assert (made["image"].shape, made["image"].dtype) == ((16, 16, 3), np.uint8)
  assert (made["tokens"].shape, made["tokens"].dtype) == ((8,), np.int32)
  assert example["captions"] == ["a dog", "a cat and a cup"]


def test_pure_in_example_and_generator(spm, example):
  run = transforms.build(TRAIN, spm)
  again = pickle.loads(pickle.dumps(run))
  a, b = run(example, np.random.default_rng(1)), again(example, np.random.default_rng(1))
  assert all(np.array_equal(a[k], b[k]) for k in a)
  assert not np.array_equal(a["image"], run(example, np.random.default_rng(2))["image"])


def test_steps(example):
  run = lambda *steps: transforms.build(steps)(example)["image"]
  assert run(("decode",)).shape == (40, 30, 3)
  assert run(("decode",), ("resize", 15)).shape == (20, 15, 3)
  assert run(("decode",), ("resize", 15, "squash")).shape == (15, 15, 3)
  assert run(("decode",), ("resize", 15), ("center_crop", 15)).shape == (15, 15, 3)
  assert run(("decode",), ("pad_square", (1, 2, 3))).shape == (40, 40, 3)
  assert np.array_equal(run(("preprocess", 15)), run(("decode",), ("resize", 15), ("center_crop", 15)))
  flipped = transforms.build([("decode",), ("flip_lr", 1.0)])(example, np.random.default_rng(0))["image"]
  assert np.array_equal(flipped, run(("decode",))[:, ::-1])


def test_a_list_of_texts_becomes_rows(spm, example):
  made = transforms.build([("tokenize", "captions", "texts")], spm)(example)
  assert made["texts"].shape == (2, 8)


def test_arguments_by_name_and_config_dicts(spm):
  config = ml_collections.ConfigDict({"transforms": [("resize", 8, {"interpolation": "bilinear"})]})
  assert transforms.build(config.transforms).steps == transforms.build([("resize", 8, "shortest", "bilinear")]).steps


def test_two_crops_are_two_draws_from_the_whole_picture(example):
  """One after the other from one generator, as `random_resized_crop` draws them; without `gap` its very pixels."""
  exact = (16, (0.3, 0.6), {"gap": None})
  run = transforms.build([("decode",), ("two_crops", *exact), ("keep", "image", "image_other")])
  made, again = (run(example, np.random.default_rng(0)) for _ in range(2))
  assert made["image"].shape == made["image_other"].shape == (16, 16, 3)
  assert not np.array_equal(made["image"], made["image_other"])
  assert all(np.array_equal(made[k], again[k]) for k in made)
  assert not np.array_equal(made["image"], run(example, np.random.default_rng(1))["image"])
  alone, rng = transforms.build([("decode",), ("random_resized_crop", *exact)]), np.random.default_rng(0)
  assert np.array_equal(made["image"], alone(example, rng)["image"])
  assert np.array_equal(made["image_other"], alone(example, rng)["image"])
  assert transforms.build([("two_crops", 16)]).random


def test_random_steps_need_a_generator(spm, example):
  run = transforms.build(TRAIN, spm)
  with pytest.raises(
    ValueError, match=r"\['random_resized_crop', 'flip_lr', 'choose_caption'\] draw at random: pass rng"
  ):
    run(example)
  assert not transforms.build([("decode",), ("choose_caption", "first")]).random


def test_split_before_the_first_random_step(spm, example):
  steps = [("decode",), ("resize", 20), *TRAIN[1:]]
  fixed, rest = transforms.build(steps, spm).split()
  assert [name for name, _ in fixed.steps] == ["decode", "resize"]
  whole = transforms.build(steps, spm)(example, np.random.default_rng(0))
  parts = rest(fixed(example), np.random.default_rng(0))
  assert all(np.array_equal(whole[k], parts[k]) for k in whole)


@pytest.mark.parametrize(
  ("step", "message"),
  [
    (("random_resize_crop", 8), "unknown transform 'random_resize_crop'; did you mean 'random_resized_crop'"),
    (
      ("resize",),
      r"transforms\[0\] = \('resize',\): missing a required argument: 'size'; its signature: resize\(size: int",
    ),
    (("flip_lr", 0.5, 1), r"too many positional arguments; its signature: flip_lr\(p: float = 0.5\)"),
    (("resize", 8, {"mod": "squash"}), r"unexpected keyword argument 'mod'; its signature: resize\("),
    (("resize", 8, "squish"), "unknown value transforms.*mode = 'squish'; did you mean 'squash'"),
    (("resize", "8"), "size = '8' is of type str; legal: int"),
    (("resize", 0), "size = 0; legal: 1 or more"),
    (("random_resized_crop", 0), "size = 0; legal: 1 or more"),
    (("random_resized_crop", 8, (0.5, 2.0)), r"scale = \(0.5, 2.0\); legal: two shares"),
    (("random_resized_crop", 8, (0.5, 1.0), (2.0, 1.0)), r"ratio = \(2.0, 1.0\); legal"),
    (("random_resized_crop", 8, {"gap": 0.5}), "gap = 0.5; legal: at least 1, or None"),
    (("flip_lr", 1.5), "p = 1.5; legal: 0 to 1"),
    (("keep",), r"keep\(\): legal: one or more names"),
    (("keep", 3), r"legal: one or more names"),
    ("decode", r'transforms\[0\] = \'decode\'; legal: a tuple of a name and its arguments, such as \("resize", 224\)'),
    (("tokenize",), "'tokenize' needs a tokenizer, and none was given"),
  ],
)
def test_wrong_tuples(step, message):
  with pytest.raises(ValueError, match=message):
    transforms.build([step])


def test_failures_name_the_step(spm, example):
  run = transforms.build(TRAIN, spm)
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match="transform 'random_resized_crop': the JPEG image of 30 x 40 cannot be read"):
    run(example | {"image": example["image"][:-200]}, rng)
  with pytest.raises(ValueError, match=r"transform 'choose_caption': captions = \[\] holds no text"):
    run(example | {"captions": []}, rng)
  with pytest.raises(
    ValueError, match="transform 'choose_caption': unknown field 'captions' of an example; did you mean 'caption'"
  ):
    run({"image": example["image"], "caption": "x"}, rng)
  with pytest.raises(ValueError, match="transform 'decode': .* not an image"):
    run(example | {"image": b"nothing"}, rng)


def test_caption_rules():
  texts = ["two", "", "three words here", "  ", "a"]
  assert captions.choose(texts, "first") == "two"
  assert captions.choose(texts, "last") == "a"
  assert captions.choose(texts, "longest") == "three words here"
  assert captions.choose(texts, "shortest") == "a"
  assert captions.choose(texts, "join") == "two three words here a"
  assert captions.choose("alone", "first") == "alone"
  drawn = {captions.choose(texts, "random", np.random.default_rng(i)) for i in range(40)}
  assert drawn == {"two", "three words here", "a"}
  with pytest.raises(ValueError, match="unknown caption rule 'fist'; did you mean 'first'"):
    captions.choose(texts, "fist")
  with pytest.raises(ValueError, match=r"captions = \[None, ' '\] holds no text"):
    captions.choose([None, " "], "first")


def test_sound_becomes_spectrograms_of_windows():
  wave = 0.5 * np.sin(np.arange(8000) * 0.2).astype(np.float32)
  steps = [("sound", 8000), ("window", "audio", 2000, 3, "even"), ("fbank", 20, 30, 8000)]
  found = transforms.build(steps)({"audio": audio.write_wav(wave, 16_000)})["audio"]
  assert found.shape == (3, 20, 30, 1)
  assert found.dtype == np.float32
  assert (found[:, :, -7:] == np.float32(np.log(audio.EPSILON))).all(), "what is missing is silence"
  one = transforms.build([("window", "imu", 5)])({"imu": np.arange(24).reshape(8, 3)}, np.random.default_rng(0))["imu"]
  np.testing.assert_array_equal(one[:, 0] % 3, 0)
  assert one.shape == (5, 3)
  with pytest.raises(ValueError, match="count = 0; legal: 1 or more"):
    transforms.build([("window", "imu", 5, 0)])


def test_frames_of_a_filmstrip():
  strip = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 30, 3, axis=2).repeat(4, axis=1).repeat(4, axis=0)
  even = transforms.build([("frames", 3, 4, {"rule": "even"})])({"image": strip})
  assert even["video"][:, 0, 0, 0].tolist() == [0, 120, 210]
  assert even["image"][0, 0, 0] == 120
  drawn = transforms.build([("frames", 2, 4)])({"image": strip}, np.random.default_rng(1))
  first, second = drawn["video"][:, 0, 0, 0].tolist()
  assert second - first == 30
  assert drawn["image"][0, 0, 0] in (first, second)
  with pytest.raises(ValueError, match="9 frames of a strip of 8"):
    transforms.build([("frames", 9, 4, {"rule": "even"})])({"image": strip})


def test_one_channel_of_eight_and_of_sixteen_bits():
  shade = np.full((6, 9), 128, np.uint8)
  run = transforms.build([("one_channel", 3, {"field": "heat", "to": "thermal"})])
  for values, kind in ((shade, np.uint8), (shade.astype(np.uint16) * 257, np.uint16)):
    buffer = io.BytesIO()
    Image.fromarray(values.astype(kind)).save(buffer, "PNG")
    found = run({"heat": buffer.getvalue()})["thermal"]
    assert found.shape == (3, 3, 1)
    np.testing.assert_allclose(found, 128 / 255, atol=1e-4)


@pytest.mark.parametrize(
  ("values", "found"),
  [(np.full((6, 9), 2.7, np.float32), "F, from 2.7"), (np.full((6, 9), 99_999, np.int32), "I, from")],
)
def test_depth_in_meters_is_refused(values, found):
  run = transforms.build([("one_channel", 3)])
  buffer = io.BytesIO()
  Image.fromarray(values).save(buffer, "TIFF")
  with pytest.raises(ValueError, match=f"image is of mode {found}.*; legal: pictures of 8 or 16 bits"):
    run({"image": buffer.getvalue()})


def test_depth_is_cropped_and_mirrored_with_its_image():
  """Depth is the image's red, at half of the size: it still is after the crop."""
  red = np.tile(np.linspace(0, 255, 64), (48, 1)) * np.linspace(0.5, 1, 48)[:, None]
  image = np.repeat(red.astype(np.uint8)[..., None], 3, 2)
  example = {"image": image, "depth": np.asarray(Image.fromarray(image).resize((32, 24)).convert("L"))}
  run = transforms.build([("aligned_crop", 16, "depth", (0.2, 0.6))])
  corners = []
  for seed in range(20):
    found = run(example, np.random.default_rng(seed))
    assert (found["image"].shape, found["depth"].shape) == ((16, 16, 3), (16, 16, 1))
    np.testing.assert_allclose(255 * found["depth"][..., 0], found["image"][..., 0], atol=8)
    corners.append(found["image"][0, 0, 0])
  assert np.ptp(corners) > 50
  assert {np.sign(float(c) - 128) for c in corners} == {-1, 1}
  with pytest.raises(ValueError, match=r"the image has \(64, 48\) pixels, depth \(24, 24\); legal: the same prop"):
    run(example | {"depth": np.zeros((24, 24), np.uint8)}, np.random.default_rng(0))
