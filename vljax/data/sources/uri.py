"""`kind:path?option=value&option=value`, taken apart and checked against the options of the kind."""

import inspect
import types
import typing
import urllib.parse
from collections.abc import Callable
from typing import Any

from vljax import config


def parse(uri: str) -> tuple[str, str, dict[str, str]]:
  """Kind, path and the options as texts (percent signs decoded).

  Raises:
    ValueError: the text has no kind, or an option has no value or comes twice.
  """
  kind, colon, rest = uri.partition(":")
  if not colon or "/" in kind or "?" in kind:
    raise ValueError(f"source {uri!r} names no kind; write kind:path?option=value, as folder:{uri}")
  path, _, query = rest.partition("?")
  options: dict[str, str] = {}
  for item in query.split("&") if query else ():
    name, equals, value = item.partition("=")
    if not equals:
      raise ValueError(f"source {uri!r}: option {item!r} is not of the form name=value")
    if name in options:
      raise ValueError(f"source {uri!r}: option {name!r} is given twice")
    options[name] = urllib.parse.unquote(value)
  return kind, path, options


def arguments(function: Callable, options: dict[str, str], uri: str) -> dict[str, Any]:
  """The options as keyword arguments of the annotated types. A trailing underscore of a parameter is not written.

  Raises:
    ValueError: a value that is not of its type.
  """
  called = function.__init__ if inspect.isclass(function) else function
  hints = {name.rstrip("_"): (name, hint) for name, hint in typing.get_type_hints(called).items()}
  return {hints[name][0]: convert(value, hints[name][1], name, uri) for name, value in options.items()}


def option_names(function: Callable) -> list[str]:
  """The names of a function's keyword-only parameters."""
  parameters = inspect.signature(function).parameters.values()
  return [p.name.rstrip("_") for p in parameters if p.kind is p.KEYWORD_ONLY]


def convert(text: str, hint: Any, name: str, uri: str) -> Any:
  """The text as a value of the hinted type: str, int, float, bool, tuple[str, ...] or a union of these.

  Raises:
    ValueError: it is none.
  """
  if isinstance(hint, types.UnionType):
    options = [h for h in typing.get_args(hint) if h is not type(None)]
    for option in options[:-1]:
      try:
        return convert(text, option, name, uri)
      except ValueError:
        continue
    return convert(text, options[-1], name, uri)
  if typing.get_origin(hint) is tuple:
    return tuple(part for part in text.split(",") if part)
  if hint is bool:
    return config.choose(f"value of option {name!r} of {uri!r}:", text.lower(), {"true": True, "false": False})
  try:
    return hint(text)
  except ValueError as error:
    raise ValueError(f"source {uri!r}: option {name}={text} is not of type {hint.__name__}") from error
