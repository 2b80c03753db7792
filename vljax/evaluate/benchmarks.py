"""Class names and prompt templates of data sets that zero-shot classification is usually measured on.

Source: OpenAI's `data/prompts.md` (github.com/openai/CLIP, MIT License, Copyright (c) 2021 OpenAI), the names and
templates behind the zero-shot numbers of arXiv 2103.00020; each set's names in the order of its labels there. They
lie in `benchmarks.txt`: `## SET`, a line `- TEMPLATE` for each template, then the names, which a `;` parts. Not all
are the sets' own spellings: so there, so here. Where the source has several names for a class (fer2013), the first
stands.
"""

import importlib.resources

_TEXT = importlib.resources.files("vljax.evaluate").joinpath("benchmarks.txt").read_text("utf-8")


def _parse(section: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
  key, *lines = section.strip().splitlines()
  templates = tuple(line.removeprefix("- ") for line in lines if line.startswith("- "))
  names = " ".join(lines[len(templates) :]).split(";")
  return key, tuple(name.strip() for name in names), templates


_SETS = [_parse(section) for section in _TEXT.split("## ")[1:]]

NAMES: dict[str, tuple[str, ...]] = {key: names for key, names, _ in _SETS}
"""Data set to its class names."""

TEMPLATES: dict[str, tuple[str, ...]] = {key: templates for key, _, templates in _SETS}
"""Data set to its templates."""
