"""The HTML file: whole, offline, escaped."""

import html.parser

import pytest

from vljax import report
from vljax.report import page

pytest.importorskip("matplotlib")


class Strict(html.parser.HTMLParser):
  """Tags that open and close in order, and where every source comes from."""

  VOID = {"meta", "img"}

  def __init__(self):
    super().__init__()
    self.open, self.seen, self.sources, self.text = [], set(), [], []

  def handle_starttag(self, tag, attrs):
    self.seen.add(tag)
    self.sources += [value for name, value in attrs if name in ("src", "href")]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


def test_the_page_needs_no_network_and_runs_nothing(made, nasty):
  whole = page.draw(made)
  parser = Strict()
  parser.feed(whole)
  assert not parser.open
  assert not {"script", "link", "iframe"} & parser.seen
  assert len(parser.sources) == 1 + 9 + 2 * 8
  assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
  assert "url(" not in whole
  text = "".join(parser.text)
  assert text.count(nasty) >= 3
  assert "trained in 1:00" in text
  assert "50.0 %" in text


def test_a_report_of_nothing_is_a_page():
  assert "<h1>t</h1>" in page.draw(report.Report(title="t", command="c", machine="m"))


def test_a_miss_tells_the_truth(made):
  picture = report.Picture(made.pictures[0].image, ("wrong",), ("right",))
  assert '<div class="miss">is: right</div>' in page.draw(
    report.Report(title="t", command="c", machine="m", pictures=(picture,))
  )
