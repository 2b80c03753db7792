"""Ten small pictures with captions, as bytes, as a tar with a table, and in folders."""

import io
import json
import pathlib
import tarfile

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory, monkeypatch):
  """Caches of the sources go to a folder of the test."""
  folder = tmp_path_factory.mktemp("cache")
  monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
  return folder


@pytest.fixture(scope="session")
def pictures() -> dict[str, bytes]:
  """Names to encoded pictures."""
  rng = np.random.default_rng(0)
  made = {}
  for number in range(10):
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (8, 9, 3), np.uint8)).save(buffer, "JPEG" if number % 2 else "PNG")
    made[f"photo_{number}.{'jpg' if number % 2 else 'png'}"] = buffer.getvalue()
  return made


@pytest.fixture
def write_tar():
  """A function that writes members to a tar."""

  def write(path: pathlib.Path, members: dict[str, bytes]) -> pathlib.Path:
    with tarfile.open(path, "w") as tar:
      for name, data in members.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return path

  return write


@pytest.fixture
def write_rows():
  """A function that writes rows to a .jsonl file."""

  def write(path: pathlib.Path, rows: list[dict]) -> pathlib.Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path

  return write


@pytest.fixture
def pairs(tmp_path, pictures, write_tar, write_rows) -> pathlib.Path:
  """A folder with captions.jsonl and images.tar."""
  folder = tmp_path / "pairs"
  folder.mkdir()
  write_tar(folder / "images.tar", {f"images/{name}": data for name, data in pictures.items()})
  rows = [
    {"image": name, "captions": [f"photo {n}", f"picture {n}"], "place": f"place {n // 2}"}
    for n, name in enumerate(pictures)
  ]
  write_rows(folder / "captions.jsonl", rows)
  return folder
