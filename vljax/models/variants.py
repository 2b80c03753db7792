"""Variants by name, and overrides that are checked."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import flax.linen as nn

from vljax import config

M = TypeVar("M", bound=nn.Module)
DTYPES = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}


def resolve(what: str, variant: str, variants: Mapping[str, Any]) -> Any:
  """The entry of a variant, upper and lower case alike.

  Raises:
    ValueError: an unknown variant, with the nearest name.
  """
  spelled = {name.lower(): name for name in variants}
  return config.choose(what, spelled.get(variant.lower(), variant), variants)


def make(
  kind: type[M], variant: str | None, variants: Mapping[str, Mapping[str, Any]], overrides: dict[str, Any]
) -> M:
  """The module of a variant with some fields overridden; without a variant the overrides are all there is.

  Raises:
    ValueError: an unknown variant, field or dtype, or a field that neither gives.
  """
  what = kind.__name__
  fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in ("parent", "name")}
  check(what, overrides, fields)
  values = {**({} if variant is None else resolve(f"{what} variant", variant, variants)), **overrides}
  missing = [n for n, f in fields.items() if n not in values and f.default is dataclasses.MISSING]
  if missing:
    raise ValueError(
      f"{what} without a variant also needs {', '.join(missing)}; found {', '.join(values) or 'nothing'}"
    )
  if isinstance(values.get("dtype"), str):
    config.choose(f"dtype of {what}", values["dtype"], DTYPES)
  return kind(**values)


def check(what: str, overrides: Iterable[str], legal: Iterable[str]) -> None:
  """Raises a ValueError with the nearest name if an override is none of the legal ones."""
  legal = list(legal)
  for name in overrides:
    if name not in legal:
      raise ValueError(config.unknown(f"override {name!r} of {what}", name, legal))
