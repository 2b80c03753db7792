"""Packages that are not there."""

import pytest

from vljax.data.sources import optional


def test_present():
  assert optional.package("json", "x", "data").loads("3") == 3


def test_absent():
  with pytest.raises(ImportError) as info:
    optional.package("no_such_package", "hf", "data")
  assert str(info.value) == "source hf: needs the package no-such-package: pip install 'vljax[data]'"
