"""What happens to a text before it is cut into pieces, by the name of the rule.

`lower`, `whitespace` and `canonicalize` are open_clip's: all repair Unicode and HTML first. `siglip` is what
transformers' SiglipTokenizer does, `siglip2` the lower-casing of its Siglip2Tokenizer.
"""

import html
import re
import string
from collections.abc import Callable

import ftfy
from tokenizers import Regex, normalizers

from vljax import config

PUNCTUATION = str.maketrans("", "", string.punctuation)
_LOWER = normalizers.Lowercase()
_CASED = r"[\p{Cased}&&\P{Case_Ignorable}]"
_FINAL_SIGMA = normalizers.Replace(Regex(rf"{_CASED}\p{{Case_Ignorable}}*\KΣ(?!\p{{Case_Ignorable}}*{_CASED})"), "ς")
"""What Python's `lower` does besides (Unicode, 3.13: Final_Sigma); `\\K`, since a look-behind has one length."""


def whitespace(text: str) -> str:
  """CLIP's cleaning without the lower-casing: repaired Unicode, HTML entities resolved twice, single spaces."""
  text = html.unescape(html.unescape(ftfy.fix_text(text)))
  return " ".join(text.split())


def lower(text: str) -> str:
  """CLIP's cleaning."""
  return whitespace(text).lower()


def canonicalize(text: str) -> str:
  """big_vision's `canonicalize_text` after CLIP's repairs: underscores are spaces, no punctuation, lower case."""
  return siglip(whitespace(text).replace("_", " "))


def siglip(text: str) -> str:
  """Lower case, no ASCII punctuation (underscores among it), single spaces."""
  return " ".join(text.lower().translate(PUNCTUATION).split())


def siglip2(text: str) -> str:
  """Lower case character by character, as a `tokenizer.json` does it: no final sigma."""
  return _LOWER.normalize_str(text)


RULES: dict[str, Callable[[str], str]] = {
  "lower": lower, "whitespace": whitespace, "canonicalize": canonicalize, "siglip": siglip, "siglip2": siglip2,
}  # fmt: skip


def check(rule: str | None) -> None:
  """Raises a ValueError for an unknown rule; None cleans nothing."""
  if rule is not None:
    config.choose("clean rule", rule, RULES)


def clean(text: str, rule: str | None) -> str:
  """The text as the rule leaves it."""
  return text if rule is None else RULES[rule](text)


def normalizers_of(rule: str | None) -> list[normalizers.Normalizer]:
  """The rule as a `tokenizer.json` can hold it; empty where there is none, or it cannot."""
  strip = [
    normalizers.Replace(Regex(f"[{re.escape(string.punctuation)}]"), ""),
    normalizers.Replace(Regex(r"\s+"), " "),
    normalizers.Strip(),
  ]
  return {"siglip": [_FINAL_SIGMA, _LOWER, *strip], "siglip2": [_LOWER]}.get(rule or "", [])
