"""The 1,000 names, in the order of the labels (all of them are held against their source in test_prompts)."""

from vljax.evaluate.imagenet import IMAGENET


def test_known_names_lie_at_their_labels():
  assert len(IMAGENET) == 1000
  assert {i: IMAGENET[i] for i in (0, 134, 207, 281, 517, 999)} == {
    0: "tench",
    134: "crane bird",
    207: "Golden Retriever",
    281: "tabby cat",
    517: "construction crane",
    999: "toilet paper",
  }


def test_two_names_occur_twice():
  assert {name for name in IMAGENET if IMAGENET.count(name) > 1} == {"missile", "sunglasses"}
