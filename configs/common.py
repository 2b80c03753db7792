"""What configs share: typed arguments after the colon, and settings that several recipes use."""

from typing import Any

import ml_collections


def parse_arg(arg: str, **defaults: Any) -> ml_collections.ConfigDict:
  """The arguments of `config.py:res=336,smoke`: each of the type of its default; a bare name means True.

  Raises:
    ValueError: an unknown argument, or a value of another type.
  """
  values = dict(defaults)
  for item in filter(None, arg.split(",")):
    name, equals, text = item.partition("=")
    if name not in defaults:
      raise ValueError(f"unknown config argument {name!r}; legal: {', '.join(sorted(defaults))}")
    kind = type(defaults[name])
    if kind is bool:
      values[name] = text.lower() not in ("false", "0") if equals else True
      continue
    try:
      values[name] = kind(text)
    except ValueError as error:
      raise ValueError(f"config argument {name} = {text!r} is not of type {kind.__name__}") from error
  return ml_collections.ConfigDict(values)


def adamw(wd: float, no_decay: str, **rule: Any) -> list[tuple[str, dict]]:
  """AdamW groups: decay `wd` on everything but what the regex `no_decay` matches."""
  return [(no_decay, dict(wd=0.0, **rule)), (".*", dict(wd=wd, **rule))]


NO_DECAY = r".*(/bias|/scale|log_scale)"
"""Gains, biases and the logit scale, which CLIP does not decay (arXiv 2103.00020, section 2.5)."""


def pairs(size: int, scale: tuple[float, float]) -> list[tuple]:
  """The host transforms of image-text pairs: decode, crop, one caption, tokens."""
  return [
    ("decode",),
    ("random_resized_crop", size, scale),
    ("choose_caption", "random"),
    ("tokenize",),
    ("keep", "image", "tokens"),
  ]
