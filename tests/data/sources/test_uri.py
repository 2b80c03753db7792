"""The parts of a URI."""

import pytest

from vljax.data.sources import uri


def takes(
  path: str = "", *, count: int = 1, share: int | float | None = None, class_: str = "", names: tuple[str, ...] = ()
):
  return path, count, share, class_, names


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("openmoji:", ("openmoji", "", {})),
    ("folder:/a b/c", ("folder", "/a b/c", {})),
    ("pairs:gs://bucket/x?a=1&b=", ("pairs", "gs://bucket/x", {"a": "1", "b": ""})),
    ("jsonl:x?a=1%2C2=3", ("jsonl", "x", {"a": "1,2=3"})),
  ],
)
def test_parse(text, expected):
  assert uri.parse(text) == expected


def test_arguments():
  found = uri.arguments(takes, {"count": "3", "share": "0.5", "class": "x", "names": "a,b"}, "u")
  assert found == {"count": 3, "share": 0.5, "class_": "x", "names": ("a", "b")}
  assert isinstance(uri.arguments(takes, {"share": "5"}, "u")["share"], int)
  assert uri.option_names(takes) == ["count", "share", "class", "names"]


def test_no_number():
  with pytest.raises(ValueError, match="source 'u': option share=half is not of type float"):
    uri.arguments(takes, {"share": "half"}, "u")
