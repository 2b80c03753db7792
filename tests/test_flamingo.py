"""The bundle of a Flamingo: prompts of texts and media, text, likelihoods, maps."""

import dataclasses

import jax
import numpy as np
import pytest
from etils import epath
from flax.core import meta

from vljax.data import interleave, tokenizers
from vljax.flamingo import FlamingoBundle, FlamingoSpeaker
from vljax.models import flamingo
from vljax.recipes import clip


@pytest.fixture(scope="module")
def bundle():
  """A random model whose gates are open, with a vocabulary learned from a few words."""
  words = [
    f"{a} {b} {c}" for a in ("a", "the", "no") for b in ("red", "blue", "green") for c in ("dog", "cat", "fish")
  ]
  tokenizer = tokenizers.train_sentencepiece(words, 278, length=16)
  tokenizer = type(tokenizer)(vocabulary=tokenizer.vocabulary, length=16, added=(interleave.IMAGE, interleave.CHUNK))
  model = flamingo.build("test", lm=dict(vocab=tokenizer.pieces, length=64))
  return FlamingoBundle(model, opened(model), {}, tokenizer, rules=clip.Preprocess(resize="longest"))


def opened(model):
  """Random parameters with open gates."""
  params = meta.unbox(jax.jit(model.init)(jax.random.key(0), *model.inputs()))["params"]
  return jax.tree.map_with_path(lambda k, x: x + 0.8 if "gate" in str(k[-1]) else x, params)


@pytest.fixture(scope="module")
def pictures():
  draw = np.random.default_rng(0)
  return [draw.integers(0, 255, (16, 24, 3), dtype=np.uint8) for _ in range(3)]


def test_learned_positions_end_and_others_do_not(bundle):
  learned = flamingo.build("test", lm=dict(positions="learned", length=20))
  assert FlamingoSpeaker(learned, bundle.rules).length == 20
  assert bundle.speaker.length is None


def test_stops_of_one_piece(bundle):
  """At the begin of a text SentencePiece puts a space; it has no line breaks."""
  assert bundle._lone(["e", " red", "\n"]) == (bundle.words.plain("ae")[-1],)


@pytest.mark.slow
def test_batches_and_padding_change_no_answer(bundle, pictures):
  a, b, c = pictures
  prompts = [[a, "a red dog", "<EOC>", b, "a blue"], "the green cat", [[a, b, c], "no"]]
  together = bundle.generate_all(prompts, max_tokens=5)
  assert together == [bundle.generate(prompt, max_tokens=5) for prompt in prompts]
  assert "".join(bundle.generate(prompts[0], max_tokens=5, stream=True)) == together[0]


@pytest.mark.slow
def test_beams_keep_to_the_picture_of_their_prompt(bundle, pictures):
  """Prompts that differ in their pictures alone, searched together: the texts are those of each alone, and differ."""
  prompts = [[picture, "a red"] for picture in pictures]
  options = dict(max_tokens=6, beams=3, length_penalty=0.0)
  together = bundle.generate_all(prompts, **options)
  assert together == [bundle.generate(prompt, **options) for prompt in prompts]
  assert len(set(together)) > 1


@pytest.mark.slow
def test_scores_are_sums_of_the_logits(bundle, pictures):
  prompt, options = [pictures[0], "a red"], [" dog", " cat"]
  for option, found in zip(options, bundle.score(prompt, options), strict=True):
    ids = bundle.words.plain(option)
    before = len(bundle.logits(prompt))
    inputs = bundle.read([prompt])
    inputs["tokens"][0, before : before + len(ids)] = ids
    inputs["real"][0, before : before + len(ids)] = True
    inputs["phi"][0, before : before + len(ids)] = 1
    likely = jax.nn.log_softmax(bundle.writer.logits(inputs)[0])
    wanted = sum(float(likely[before - 1 + i, token]) for i, token in enumerate(ids))
    np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.slow
def test_only_the_own_picture_is_seen(bundle, pictures):
  a, b, c = pictures
  one = bundle.logits([a, "a dog", b, "a cat"])
  other = bundle.logits([a, "a dog", c, "a cat"])
  differs = np.abs(one - other).max(1) > 1e-5
  first = list(bundle.read([[a, "a dog", b, "a cat"]])["phi"][0]).index(2)
  assert not differs[:first].any()
  assert differs[first:].all()


@pytest.mark.slow
def test_texts_alone_pass_through_the_gated_blocks(bundle):
  text = "a red dog the blue cat"
  tokens = np.array([bundle.words.plain(text)])
  run = lambda **options: bundle.model.apply({"params": bundle.params}, tokens, None, None, **options)
  loss = lambda logits: -np.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], 2).mean()
  assert bundle.perplexity(text) == pytest.approx(float(np.exp(loss(run()))), rel=1e-4)
  assert abs(float(np.exp(loss(run(bypass=True)))) / bundle.perplexity(text) - 1) > 1e-3


@pytest.mark.slow
def test_features_of_media_are_means_of_what_the_vision_encoder_gives(bundle, pictures):
  a, b, _ = pictures
  inputs = bundle.read([[a, b, [a, b]]])
  images = bundle.rules.apply(inputs["images"])
  x = bundle.model.apply({"params": bundle.params}, images, method="features")[0].mean(2)
  wanted = np.stack([x[0, 0], x[1, 0], x[2].mean(0)])
  wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
  for batch in (3, 2):
    np.testing.assert_allclose(bundle.image_features([a, b, [a, b]], batch), wanted, atol=1e-5)
  np.testing.assert_allclose(bundle.image_features(a), wanted[:1], atol=1e-5)
  np.testing.assert_allclose(bundle.image_features(np.stack([a, b])), wanted[2:], atol=1e-5)


@pytest.mark.slow
def test_kernels_of_an_nfnet_are_standardized_once(bundle, pictures):
  """They are plain convolutions when the bundle is asked, and what it says is what the model says."""
  vision = dict(tower="nfnet", variant="test", image_size=32)
  model = flamingo.build("test", vision=vision, lm=dict(vocab=bundle.tokenizer.pieces, length=64))
  params = opened(model)
  made = dataclasses.replace(bundle, model=model, params=params)
  inputs = made.read([[pictures[0], "a red dog"]])
  plain = FlamingoSpeaker(model, made.rules)
  wanted = plain.visual(params, inputs["images"], inputs["frames"])[0]
  np.testing.assert_allclose(made.encode_image(pictures[:1]), wanted, atol=1e-4)
  traced = lambda speaker, weights: str(jax.make_jaxpr(speaker.visual)(weights, inputs["images"], inputs["frames"]))
  assert traced(plain, params).count("= rsqrt") > traced(made.speaker, made.weights).count("= rsqrt") + 10
  assert made.generate([pictures[0], "a red"], max_tokens=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_resamplers_without_latents_take_media_of_one_length(bundle, pictures, kind):
  """They give a token for each of the 16 positions of every frame."""
  model = flamingo.build("test", lm=dict(vocab=bundle.tokenizer.pieces, length=64), resampler=dict(kind=kind))
  made = dataclasses.replace(bundle, model=model, params=opened(model))
  a, b, _ = pictures
  images = made.rules.apply(np.stack([made.preprocess(picture) for picture in (a, b)])[None, :, None])
  wanted = model.apply({"params": made.params}, images, method="encode_image")[0]
  assert wanted.shape == (2, 16, 32)
  np.testing.assert_allclose(made.encode_image([a, b]), wanted, atol=1e-5)
  assert made.encode_image([[a, b], [b, a]]).shape == (2, 32, 32)
  assert np.abs(made.logits([a, "a red"]) - made.logits([b, "a red"]))[1:].max() > 1e-4
  prompts = [[a, "a red dog", "<EOC>", b, "a blue"], "the green cat"]
  assert made.generate_all(prompts, max_tokens=3) == [made.generate(prompt, max_tokens=3) for prompt in prompts]
  for ask in (made.encode_image, made.generate):
    with pytest.raises(
      ValueError, match=f"^media of 1, 2 frames; a resampler of kind '{kind}' .*; legal: media of one"
    ):
      ask([a, [a, b]])
  with pytest.raises(ValueError, match=f"a resampler of kind '{kind}' has no latents"):
    made.attention_map([a, "a red"], 0)


@pytest.mark.slow
def test_maps_have_a_share_for_each_position(bundle, pictures):
  pieces, maps = bundle.attention_map([pictures[0], "a red dog"], 1)
  assert len(pieces) == len(maps)
  assert pieces[1] == interleave.IMAGE
  np.testing.assert_allclose(maps[1:].sum((1, 2, 3)), 1, atol=1e-5)
  assert not maps[0].any()


@pytest.mark.slow
def test_what_is_no_prompt_is_refused(bundle, pictures):
  with pytest.raises(ValueError, match="legal: str, a list of texts, pictures, clips"):
    bundle.generate(pictures[0])
  with pytest.raises(FileNotFoundError, match="there is no picture nowhere.jpg"):
    bundle.generate([epath.Path("nowhere.jpg"), "a"])
  for encode in (bundle.encode_image, bundle.image_features):
    with pytest.raises(ValueError, match="an empty list of media; legal: a picture, a clip, or a list of one or more"):
      encode([])
  for clip_ in ([], np.zeros((0, 8, 8, 3), np.uint8)):
    with pytest.raises(ValueError, match="a clip of 0 frames; legal: 1 or more"):
      bundle.generate([clip_, "a"])
  with pytest.raises(ValueError, match="max_tokens = 64; the model was made for 64 together"):
    bundle.generate("a red dog", max_tokens=64)
