"""Captions and fields of rows, whatever they hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax.data.sources import source


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(max_size=5), st.lists(st.text(max_size=5), max_size=4), st.none()))
def test_texts_are_stripped_and_never_empty(value):
  given_texts = [value] if isinstance(value, str) else value or []
  expected = [text.strip() for text in given_texts if text.strip()]
  if expected:
    assert source.texts_of({"t": {"en": value}}, ["t.en"], "here") == expected
    return
  with pytest.raises(ValueError, match="here has no caption: field 't.en' is absent or empty"):
    source.texts_of({"t": {"en": value}}, ["t.en"], "here")


@pytest.mark.parametrize("value", [3, [1, 2], ["a", None]])
def test_no_text(value):
  with pytest.raises(ValueError, match="here: caption field 't' holds .*; legal: a text or a list of texts"):
    source.texts_of({"t": value}, ["t"], "here")


def test_lookup():
  row = {"a": {"b": 3}, "c": None}
  assert source.lookup(row, "a.b", "here") == 3
  assert source.lookup(row, "c", "here") is None
  with pytest.raises(ValueError, match="here: unknown field 'a.bb'; did you mean 'b'"):
    source.lookup(row, "a.bb", "here")
  with pytest.raises(ValueError, match="here: unknown field 'c.d'; legal: "):
    source.lookup(row, "c.d", "here")


def test_caption_fields():
  assert source.find_caption_fields({"text": "x", "caption": "y"}, ()) == ("caption",)
  assert source.find_caption_fields({"text": "x"}, ("label.en",)) == ("label.en",)
  assert source.find_caption_fields({"label": 3}, ()) == ()
