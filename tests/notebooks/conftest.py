import nbclient
import nbformat
import pytest


@pytest.fixture
def execute(root):
  """execute(path of a notebook, checkout that it lies in) -> (all that it prints, its pictures)."""

  def execute(path, checkout=root):
    book = nbformat.read(checkout / path, as_version=4)
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(checkout / "notebooks")}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    return "".join(output.get("text", "") for output in outputs), pictures

  return execute
