"""The picture: its size, and that nothing on it overlaps."""

import dataclasses
import io

import pytest
from PIL import Image

from vljax import report
from vljax.report import figure

pytest.importorskip("matplotlib")


@pytest.mark.slow
def test_the_picture_has_the_width_of_a_page(made):
  with Image.open(io.BytesIO(figure.draw(dataclasses.replace(made, pictures=made.pictures[:2])))) as image:
    assert image.width == 1600
    assert 1000 < image.height < 4000


@pytest.mark.slow
def test_no_texts_overlap_or_leave_the_page(made):
  with figure._quiet_about_fonts():
    page = figure._Page(made, figure._Page(made, 10.0, ink=False).lay_out())
    page.lay_out()
    renderer = page.figure.canvas.get_renderer()
    texts = [text.get_window_extent(renderer) for text in page.figure.texts if text.get_text().strip()]
  width, height = page.figure.get_size_inches() * page.figure.dpi
  assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in texts)
  pictures = [axes.get_window_extent(renderer) for axes in page.figure.axes if axes.images]
  assert len(pictures) == 9 + 2 * 8
  slack = 3.0
  for i, a in enumerate(texts):
    for b in texts[i + 1 :] + pictures:
      beside = a.x1 <= b.x0 + slack or b.x1 <= a.x0 + slack
      assert beside or a.y1 <= b.y0 + slack or b.y1 <= a.y0 + slack, (i, a, b)


def test_there_are_no_curves_without_numbers():
  assert figure.draw_curves(report.Report(title="t", command="c", machine="m")) is None


def test_a_loss_that_was_never_finite_is_an_empty_panel():
  nothing = report.Report(title="t", command="c", machine="m", loss=report.Curve("loss", (), ()))
  assert figure.draw_curves(nothing).startswith(b"\x89PNG")
