"""CIDEr-D and BLEU against values computed by hand."""

import math

import pytest

from vljax.evaluate import captions

ONE = [["a b"], ["c"]]


@pytest.mark.parametrize(
  ("caption", "score"),
  [
    ("a b", 10 / 4 * (1 + 1)),  # every n-gram that there is, n = 1 and 2
    ("a c", 10 / 4 * 0.5),  # of two words one, and no pair
    ("a", 10 / 4 * math.exp(-1 / 72) / math.sqrt(2)),  # one word too short
    ("a a", 10 / 4 * 2 / (2 * math.sqrt(2)) / 2),  # the second a counts for its length only
    ("x", 0.0),
    ("", 0.0),
  ],
)
def test_cider(caption, score):
  found = captions.cider([caption, "c"], ONE)
  assert found[0] == pytest.approx(score)
  assert found[1] == pytest.approx(10 / 4)


def test_words_that_every_picture_has_weigh_nothing():
  rare, common = captions.cider(["a dog", "a x"], [["a dog"], ["a cat"]])
  assert rare == pytest.approx(10 / 4 * 2)
  assert common == 0.0


def test_references_are_averaged():
  assert captions.cider(["a b", "c"], [["a b", "x"], ["c"]])[0] == pytest.approx(10 / 4 * 2 / 2)


def test_bleu():
  assert captions.bleu(["the cat sat on the mat"], [["the cat sat on the mat"]]) == pytest.approx(1.0)
  assert captions.bleu(["the the the"], [["the cat sat"]], longest=1) == pytest.approx(1 / 3)
  assert captions.bleu(["a b"], [["a b c d", "a b c d e"]], longest=2) == pytest.approx(math.exp(1 - 4 / 2))
  pairs = captions.bleu(["a b c"], [["a b", "b c d"]], longest=2)
  assert pairs == pytest.approx(1.0)
  assert captions.bleu(["a b c"], [["a b c"]]) == 0.0, "no four words"


def test_words():
  assert captions.words("A man's dog don’t like the T-shirt, does it?") == [
    "a", "man", "'s", "dog", "do", "n't", "like", "the", "t-shirt", "does", "it",
  ]  # fmt: skip
  assert captions.words("  . ") == []


def test_both_at_once():
  found = captions.evaluate(["a b c d", "e"], [["a b c d"], ["e", "f"]])
  assert sorted(found) == ["bleu4", "cider"]


@pytest.mark.parametrize(
  ("references", "message"),
  [
    ([["a"], ["b"]], "1 captions for the references of 2 pictures"),
    ([[]], "picture 0 has the references \\[\\]; legal: a list of one text or more"),
    (["a"], "picture 0 has the references 'a'"),
  ],
)
def test_what_does_not_fit(references, message):
  with pytest.raises(ValueError, match=message):
    captions.evaluate(["a"], references)
