"""Files by pattern: `{000..009}` and `{a,b}` as in a shell, then * and [...]."""

import glob
import re

from etils import epath


def expand(pattern: str) -> list[epath.Path]:
  """The files that fit, in the order of the braces, sorted within each.

  Raises:
    FileNotFoundError: a part of the pattern fits no file.
  """
  found: list[epath.Path] = []
  for item in braces(str(epath.Path(pattern).expanduser())):
    matches = matching(item)
    if not matches:
      raise FileNotFoundError(f"no file fits {item!r} (of the pattern {pattern!r})")
    found += matches
  return list(dict.fromkeys(found))


def matching(pattern: str) -> list[epath.Path]:
  """The files that fit a pattern without braces."""
  if "://" not in pattern:
    return [epath.Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
  folder, _, name = pattern.rpartition("/")
  return sorted(epath.Path(folder).glob(name))


def braces(pattern: str) -> list[str]:
  """The patterns with the first pair of braces written out, and so on; `{08..11}` keeps the zeros.

  Raises:
    ValueError: a range that runs backwards, or braces without a range or a comma.
  """
  match = re.search(r"\{([^{}]*)\}", pattern)
  if not match:
    return [pattern]
  numbers = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
  if numbers:
    first, last = numbers.groups()
    choices = [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
  else:
    choices = match[1].split(",") if "," in match[1] else []
  if not choices:
    raise ValueError(f"pattern {pattern!r}: {match[0]} is neither a range as {{000..009}} nor a list as {{a,b}}")
  return [item for choice in choices for item in braces(pattern[: match.start()] + choice + pattern[match.end() :])]
