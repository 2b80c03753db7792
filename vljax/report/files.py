"""Both forms of the page, side by side."""

from etils import epath

from vljax.report import figure, page
from vljax.report.content import Report


def write(report: Report, directory: epath.PathLike, name: str = "report") -> tuple[epath.Path, epath.Path]:
  """Write `name.png` and `name.html` into the directory and return their paths.

  Raises:
    ImportError: matplotlib is not installed.
  """
  directory = epath.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  png, html = directory / f"{name}.png", directory / f"{name}.html"
  png.write_bytes(figure.draw(report))
  html.write_text(page.draw(report))
  return png, html
