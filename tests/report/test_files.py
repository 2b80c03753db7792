"""Both files in the run's directory."""

import sys

import pytest
from PIL import Image

from vljax import report

EMPTY = report.Report(title="t", command="c", machine="m")


def test_both_forms_are_written(tmp_path):
  pytest.importorskip("matplotlib")
  png, html = report.write(EMPTY, tmp_path / "new")
  assert (png.name, html.name) == ("report.png", "report.html")
  with Image.open(str(png)) as image:
    image.load()
  assert html.read_text().startswith("<!DOCTYPE html>")


def test_matplotlib_is_asked_for_by_name(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
  with pytest.raises(ImportError, match=r"a report needs the package matplotlib: pip install 'vljax\[eval\]'"):
    report.write(EMPTY, tmp_path)
