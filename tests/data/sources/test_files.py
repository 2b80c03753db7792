"""Reading at an offset from many threads and processes, and writing whole files or none."""

import concurrent.futures
import multiprocessing
import pickle

import numpy as np
import pytest
from etils import epath

from vljax.data.sources import files


@pytest.fixture
def numbers(tmp_path):
  path = tmp_path / "numbers"
  path.write_bytes(np.arange(10_000, dtype="<u4").tobytes())
  return files.RandomFile(path)


def read(file, number):
  return int(np.frombuffer(file.read(4 * number, 4), "<u4")[0])


def test_threads(numbers):
  order = np.random.default_rng(0).permutation(10_000)[:2000].tolist()
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert list(pool.map(lambda n: read(numbers, n), order)) == order


def test_processes(numbers):
  read(numbers, 0)
  with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
    assert list(pool.map(read, [numbers] * 5, range(5))) == list(range(5))


def test_pickle_holds_the_path_alone(numbers):
  read(numbers, 3)
  assert read(pickle.loads(pickle.dumps(numbers)), 7) == 7


def test_write_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
  target = epath.Path(tmp_path / "a/b.txt")
  files.write_atomically(target, b"one")
  monkeypatch.setattr(type(target), "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
  with pytest.raises(OSError, match="full"):
    files.write_atomically(target, b"two")
  assert [path.name for path in target.parent.iterdir()] == ["b.txt"]
  assert target.read_bytes() == b"one"


def test_below(tmp_path):
  for name in ("b.txt", "a/c.TXT", "a/d/e.txt", "a/f.md", "._b.txt", "a/.c.txt"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("x")
  assert files.below(epath.Path(tmp_path), (".txt",)) == ["a/c.TXT", "a/d/e.txt", "b.txt"]


@pytest.mark.parametrize("folder", [".", "./", "../here"])
def test_below_a_relative_folder(tmp_path, monkeypatch, folder):
  (tmp_path / "here/cat").mkdir(parents=True)
  (tmp_path / "here/cat/1.txt").write_text("x")
  monkeypatch.chdir(tmp_path / "here")
  assert files.below(epath.Path(folder), (".txt",)) == ["cat/1.txt"]


def test_below_a_bucket(monkeypatch):
  folder = epath.Path("gs://bucket/x")
  monkeypatch.setattr(type(folder), "walk", lambda self: [(epath.Path("bucket/x/cat"), [], ["1.txt"])])
  assert files.below(folder, (".txt",)) == ["cat/1.txt"]


def test_below_follows_links_but_not_in_a_circle(tmp_path):
  for name in ("here/cat/1.txt", "there/2.txt"):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("x")
  (tmp_path / "here/bird").symlink_to(tmp_path / "there")
  (tmp_path / "there/back").symlink_to(tmp_path / "here")
  (tmp_path / "there/self").symlink_to(".")
  assert files.below(epath.Path(tmp_path / "here"), (".txt",)) == ["bird/2.txt", "cat/1.txt"]
