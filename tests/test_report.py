"""The report's numbers, its escaping, and a page on which nothing overlaps."""

import html.parser
import io
import re
import sys

import numpy as np
import pytest
from PIL import Image

from vljax import report
from vljax.report import contrastive, figure
from vljax.train import writers

pytest.importorskip("matplotlib")

NASTY = "<script>alert('x')</script> & \"$x_1$\""


def world(n=9, d=8):
  """Pictures and names that two lookup tables embed; every name lies at its picture."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (n, 8, 8, 3), np.uint8)
  z = rng.normal(size=(n, d))
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  names = [f"name {i}" for i in range(n)]
  names[0], names[1] = NASTY, "とても長い名前" * 9
  by_image = {image.tobytes(): row for image, row in zip(images, z, strict=True)}
  by_name = dict(zip(names, z, strict=True))
  encode_image = lambda batch: np.stack([by_image[image.tobytes()] for image in batch])
  encode_text = lambda batch: np.stack([by_name.get(text, z[-1]) for text in batch])
  examples = [{"image": image, "captions": [name]} for image, name in zip(images, names, strict=True)]
  return examples, encode_image, encode_text


def metrics(directory):
  with writers.build(directory, ["jsonl"], process=0) as writer:
    for step in range(1, 31):
      writer.write(step, {"clip/train/loss": float("nan") if step == 7 else 5 / step, "time/elapsed": 2.0 * step})
      if step % 10 == 0:
        scores = {"image_to_text/R@10": step / 60, "image_to_text/R@10/chance": 0.1, "image_to_text/median_rank": 4}
        writer.write(step, {f"retrieval/{name}": value for name, value in scores.items()})


def made(directory, **options):
  examples, encode_image, encode_text = world()
  metrics(directory)
  return report.build(
    "A run", "python launch/train.py", encode_image=encode_image, encode_text=encode_text, examples=examples,
    queries=["what is typed", NASTY], metrics=directory, credit=NASTY, **options,
  )  # fmt: skip


def test_build_finds_names_answers_and_numbers(tmp_path):
  page = made(tmp_path, shown=4, nearest=3, per_query=2)
  assert len(page.pictures) == 4
  for picture in page.pictures:
    assert len(picture.names) == 3
    assert picture.names[0] == picture.truth[0]
  examples, *_ = world()
  np.testing.assert_array_equal(page.queries[0].images[0], examples[-1]["image"])
  np.testing.assert_array_equal(page.queries[1].images[0], examples[0]["image"])
  assert page.scores == (
    report.Score("image → text R@10", 0.5, 0.1), report.Score("image → text median rank", 4.0, None),
  )  # fmt: skip
  assert page.seconds == 60.0
  assert len(page.loss.values) == 29
  assert page.curves[0].steps == (10, 20, 30)
  assert page.curves[0].values == pytest.approx((10 / 60, 20 / 60, 0.5))
  assert re.search(r"cores of .+, jax \d", page.machine)


def test_scores_of_two_evaluations_keep_their_names():
  rows = [{"step": 1, "a/x/R@1": 0.5, "a/x/R@1/chance": 0.1, "b/x/R@1": 0.25, "b/x/R@1/chance": 0.1, "c": None}]
  assert [score.name for score in contrastive.scores(rows)] == ["a x R@1", "b x R@1"]


def test_scores_print_rates_in_percent():
  assert report.Score("R@1", 0.123, 0.01).show(0.123) == "12.3 %"
  assert report.Score("rank", 12.0, None).show(12.0) == "12"
  assert report.Score("rank", 12.0, None).show(None) == "–"


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


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  directory = tmp_path_factory.mktemp("run")
  return report.write(made(directory), directory / "out")


def test_the_page_needs_no_network_and_runs_nothing(written):
  _, path = written
  parser = Strict()
  parser.feed(path.read_text())
  assert not parser.open
  assert not {"script", "link", "iframe"} & parser.seen
  assert parser.sources
  assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
  assert "url(" not in path.read_text()
  text = "".join(parser.text)
  assert text.count(NASTY) >= 2
  assert "0:01:00" not in text
  assert "trained in 1:00" in text
  assert "50.0 %" in text


def test_the_picture_has_the_width_of_a_page(written):
  path, _ = written
  with Image.open(io.BytesIO(path.read_bytes())) as image:
    assert image.width == 1600
    assert 1200 < image.height < 4000


def test_no_texts_overlap_or_leave_the_page(tmp_path):
  with figure._quiet_about_fonts():
    page = figure._Page(made(tmp_path), 10.0, ink=False)
    page = figure._Page(page.report, page.lay_out())
    page.lay_out()
    renderer = page.figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in page.figure.texts if text.get_text().strip()]
  width, height = page.figure.get_size_inches() * page.figure.dpi
  for box in boxes:
    assert box.x0 >= 0
    assert box.x1 <= width
    assert box.y0 >= 0
    assert box.y1 <= height
  pictures = [axes.get_window_extent(renderer) for axes in page.figure.axes if axes.images]
  assert len(pictures) == 9 + 2 * 8
  slack = 3.0
  for i, a in enumerate(boxes):
    for b in boxes[i + 1 :] + pictures:
      apart = a.x1 <= b.x0 + slack or b.x1 <= a.x0 + slack or a.y1 <= b.y0 + slack or b.y1 <= a.y0 + slack
      assert apart, (i, a, b)


def test_a_report_of_nothing_is_a_page(tmp_path):
  png, path = report.write(report.Report(title="t", command="c", machine="m"), tmp_path)
  assert png.exists()
  assert "<h1>t</h1>" in path.read_text()


def test_matplotlib_is_asked_for_by_name(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
  with pytest.raises(ImportError, match=r"a report needs the package matplotlib: pip install 'vljax\[eval\]'"):
    report.write(report.Report(title="t", command="c", machine="m"), tmp_path)


def test_bad_examples_are_named():
  _, encode_image, encode_text = world()
  build = lambda example: report.build(
    "t", "c", encode_image=encode_image, encode_text=encode_text, examples=[example]
  )
  with pytest.raises(
    ValueError, match=r"example 0 of the report needs an image and captions; it has \['captions', 'image'\]"
  ):
    build({"image": np.zeros((2, 2, 3), np.uint8), "captions": []})
  with pytest.raises(ValueError, match=r"uint8 \[h w 1 or 3\]; found float64 \(2, 2, 3\)"):
    build({"image": np.zeros((2, 2, 3)), "captions": ["x"]})
