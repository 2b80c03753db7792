"""CIDEr-D and BLEU against pycocoevalcap's, whose Java tokenizer is left out: texts are words with spaces between."""

import random

import numpy as np
import pytest

from vljax.evaluate import captions

pytestmark = pytest.mark.parity

WORDS = ["a", "the", "dog", "cat", "runs", "sits", "on", "in", "grass", "snow", "red", "two", "big", "water", "street"]


def sentence(rng: random.Random) -> str:
  return " ".join(rng.choices(WORDS, k=rng.randint(1, 14)))


def near(rng: random.Random, text: str) -> str:
  return " ".join(w if rng.random() < 0.8 else rng.choice(WORDS) for w in text.split() if rng.random() < 0.9) or "dog"


@pytest.fixture(scope="module", params=["random", "flickr8k"])
def texts(request):
  rng = random.Random(0)
  if request.param == "random":
    references = [[near(rng, base) for _ in range(rng.randint(1, 5))] for base in (sentence(rng) for _ in range(60))]
  else:
    from vljax.data import sources

    source = sources.open(f"pairs:{request.getfixturevalue('data_dir')}/flickr8k?images=images_128.tar")
    spelled = lambda text: " ".join(captions.words(text))
    references = [[spelled(caption) for caption in source.row(i)["captions"]] for i in range(0, 600, 3)]
  return [near(rng, rng.choice(group)) for group in references], references


def test_cider(texts):
  theirs = pytest.importorskip("pycocoevalcap.cider.cider_scorer").CiderScorer(n=4, sigma=6.0)
  found, references = texts
  for caption, group in zip(found, references, strict=True):
    theirs += (caption, group)
  mean, each = theirs.compute_score()
  np.testing.assert_allclose(captions.cider(found, references), each, rtol=1e-9, atol=1e-12)
  assert captions.evaluate(found, references)["cider"] == pytest.approx(mean, rel=1e-9)


def test_bleu(texts):
  scorer = pytest.importorskip("pycocoevalcap.bleu.bleu_scorer").BleuScorer(n=4)
  found, references = texts
  for caption, group in zip(found, references, strict=True):
    scorer += (caption, group)
  theirs, _ = scorer.compute_score(option="closest", verbose=0)
  ours = [captions.bleu(found, references, n) for n in (1, 2, 3, 4)]
  np.testing.assert_allclose(ours, theirs, rtol=1e-6)
