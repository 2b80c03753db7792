"""The stated templates and names, counted, and held against open_clip's where that is installed."""

import importlib.util
import pathlib

import pytest

from vljax.evaluate import prompts


def test_counts_and_holes():
  assert len(prompts.templates("imagenet_80")) == len(set(prompts.templates("imagenet_80"))) == 80
  assert len(prompts.templates("imagenet_7")) == 7
  assert set(prompts.templates("imagenet_7")) <= set(prompts.templates("imagenet_80"))
  assert len(prompts.class_names("imagenet")) == 1000
  assert len(set(prompts.class_names("imagenet"))) == 998
  assert len(prompts.class_names("cifar10")) == 10
  for templates in prompts.TEMPLATES.values():
    assert all(template.count("{}") == 1 for template in templates)
  for names in prompts.CLASS_NAMES.values():
    assert all(name == name.strip() and name and "\n" not in name for name in names)


def test_names_and_templates_are_those_of_the_stated_source():
  found = importlib.util.find_spec("open_clip")
  if found is None:
    pytest.skip("open_clip is not installed")
  file = pathlib.Path(found.origin).parent / "zero_shot_metadata.py"
  spec = importlib.util.spec_from_file_location("zero_shot_metadata", file)
  source = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(source)
  assert prompts.class_names("imagenet") == tuple(source.IMAGENET_CLASSNAMES)
  assert prompts.templates("imagenet_80") == tuple(t("{}") for t in source.OPENAI_IMAGENET_TEMPLATES)
  assert prompts.templates("imagenet_7") == tuple(t("{}") for t in source.SIMPLE_IMAGENET_TEMPLATES)


def test_a_misspelt_set_is_answered_with_the_nearest():
  with pytest.raises(ValueError, match="imagenet_80"):
    prompts.templates("imagenet_8")
  with pytest.raises(ValueError, match="cifar10"):
    prompts.class_names("cifar")
