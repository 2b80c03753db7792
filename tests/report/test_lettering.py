"""Wrapping by measured width."""

import pytest

from vljax.report import figure, lettering

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def text():
  return lettering.Lettering(figure._figure(4, 4))


def test_lines_fit_and_lose_nothing(text):
  words = "a picture of a very long winding road between two mountains under a pale moon"
  lines = text.wrap(words, 9, 1.2, 99)
  assert len(lines) > 3
  assert " ".join(lines) == words
  assert all(text.measure(line, 9) <= 1.2 for line in lines)


def test_a_word_longer_than_a_line_is_cut_between_letters(text):
  word = "Donaudampfschifffahrtsgesellschaft"
  lines = text.wrap(f"die {word}", 9, 1.2, 99)
  assert "".join(lines).replace(" ", "") == f"die{word}"
  assert all(text.measure(line, 9) <= 1.2 for line in lines)


def test_what_does_not_fit_ends_in_an_ellipsis(text):
  lines = text.wrap("one two three four five six seven eight nine ten", 9, 1.0, 2)
  assert len(lines) == 2
  assert lines[-1].endswith("…")
  assert text.measure(lines[-1], 9) <= 1.0


def test_short_and_empty_text(text):
  assert text.wrap("one", 9, 1.0, 1) == ["one"]
  assert text.wrap("  ", 9, 1.0, 1) == []
