"""VQA accuracy as the challenge's own program counts it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vljax.evaluate import vqa

OFFICIAL = [
  ("yes", {"yes": 10}, 1.0),
  ("Yes", {"yes": 10}, 0.0),
  ("Yes.", {"yes": 9, "no": 1}, 1.0),
  ("two", {"2": 3, "3": 7}, 0.9),
  ("2", {"two": 2, "3": 8}, 0.6),
  ("the red one", {"red 1": 4, "blue": 6}, 1.0),
  ("1,000", {"1000": 5, "100": 5}, 1.0),
  ("red-and-white", {"red and white": 3, "white": 7}, 0.9),
  ("dont know", {"don't know": 1, "no": 9}, 0.3),
  ("3.5", {"3.5": 2, "3": 8}, 0.6),
  ("none", {"0": 6, "1": 4}, 1.0),
  ("cat?", {"cat": 10}, 0.0),
  ("a/b", {"a b": 5, "b": 5}, 1.0),
  ("x / y", {"x y": 3, "z": 7}, 0.9),
  ("U.S.", {"us": 3, "uk": 7}, 0.9),
]
"""What VQAEval of the challenge's repository (GT-Vision-Lab/VQA) gave for these, run on 2026-11-25."""


@pytest.mark.parametrize(("prediction", "people", "accuracy"), OFFICIAL)
def test_as_the_official_program(prediction, people, accuracy):
  answers = [answer for answer, count in people.items() for _ in range(count)]
  assert vqa.accuracy(prediction, answers) == pytest.approx(accuracy)


@given(st.integers(0, 10))
def test_the_formula(same):
  answers = ["cat"] * same + ["dog"] * (10 - same)
  if same < 10:
    expected = (same * min(1, (same - 1) / 3) + (10 - same) * min(1, same / 3)) / 10 if same else 0.0
    assert vqa.accuracy("cat", answers) == pytest.approx(expected)


@pytest.mark.parametrize(
  ("text", "normal"),
  [
    ("A dog, and the cat!", "dog and cat"),
    ("Seven", "7"),
    ("black/white", "black white"),
    ("10,000 (ten)", "10000 10"),
    (".5 and end.", ".5 and end"),
    ("its wont theyre y'alld've", "its won't they're y'all'd've"),
  ],
)
def test_normalize(text, normal):
  assert vqa.normalize(text) == normal


def test_contractions_miss_one_apostrophe():
  table = vqa.contractions()
  assert len(table) > 100
  assert all(right.count("'") == wrong.count("'") + 1 for wrong, right in table.items())
  assert not table.keys() & {"its", "were", "well", "ill", "id", "shell", "hell", "wed"}


def test_all_questions():
  assert vqa.evaluate(["yes", "no"], [["yes"] * 10, ["yes"] * 10]) == {"accuracy": 0.5}
  assert vqa.exact("The Dog.", ["dog", "puppy"])
  assert not vqa.exact("cat", ["dog"])
  with pytest.raises(ValueError, match="1 predictions for the answers to 2 questions"):
    vqa.evaluate(["yes"], [["yes"] * 10] * 2)
  with pytest.raises(ValueError, match=r"VQA accuracy needs the answers of two people or more; found \['yes'\]"):
    vqa.accuracy("yes", ["yes"])
