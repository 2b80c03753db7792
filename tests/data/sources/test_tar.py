"""Tars: the stored index, names, and every kind of damage by its message."""

import gzip
import os
import pickle
import tarfile

import numpy as np
import pytest
from etils import epath

from vljax.data.sources import tar


@pytest.fixture
def path(tmp_path, pictures, write_tar):
  return write_tar(tmp_path / "images.tar", {f"a/{name}": data for name, data in pictures.items()})


def test_reads_what_tarfile_reads(path):
  store = tar.Tar(path)
  with tarfile.open(path) as archive:
    for name in store.names:
      assert store.read(store.find(name)) == archive.extractfile(name).read()
  assert len(store) == 10


def test_names(path):
  store = tar.Tar(path)
  assert {store.find(n) for n in ("a/photo_3.jpg", "./a/photo_3.jpg", "a/photo_3", "photo_3.jpg", "photo_3")} == {3}
  assert store.find("photo_30") is None


def test_short_names_of_several_members_name_none(tmp_path, write_tar):
  store = tar.Tar(write_tar(tmp_path / "t.tar", {"a/x.png": b"1", "b/x.png": b"2"}))
  assert store.find("x.png") is None
  assert store.read(store.find("b/x.png")) == b"2"


def test_long_and_foreign_names(tmp_path, write_tar):
  names = ["z" * 180 + "/" + "y" * 120 + ".png", "ünï/日本.png"]
  store = tar.Tar(write_tar(tmp_path / "t.tar", {name: name.encode() for name in names}))
  again = tar.Tar(tmp_path / "t.tar")
  for name in names:
    assert store.read(store.find(name)) == again.read(again.find(name)) == name.encode()


def test_index_is_stored_beside_and_used(path, monkeypatch):
  tar.Tar(path)
  assert (path.parent / "images.tar.index.npz").exists()
  monkeypatch.setattr(tar, "scan", lambda _: pytest.fail("the tar was read again"))
  assert len(tar.Tar(path)) == 10


def test_index_goes_to_the_cache_where_writing_is_forbidden(path, cache_home):
  path.parent.chmod(0o555)
  try:
    tar.Tar(path)
  finally:
    path.parent.chmod(0o755)
  assert not (path.parent / "images.tar.index.npz").exists()
  assert [p.name.split(".")[0] for p in (cache_home / "vljax").iterdir()] == ["images"]


def test_stale_or_damaged_index_is_built_again(path, pictures, write_tar):
  tar.Tar(path)
  write_tar(path, {"only.png": pictures["photo_0.png"]})
  os.utime(path, (1, 1))
  assert tar.Tar(path).names == ["only.png"]
  (path.parent / "images.tar.index.npz").write_bytes(b"PK\x03\x04 nothing")
  assert tar.Tar(path).names == ["only.png"]


def test_index_never_unpickles(path):
  np.savez(path.parent / "images.tar.index.npz", stamp=np.array([object()], object))
  assert len(tar.Tar(path)) == 10


def test_pickles_without_open_files(path):
  store = tar.Tar(path)
  first = store.read(0)
  data = pickle.dumps(store)
  assert len(data) < 3000
  assert pickle.loads(data).read(0) == first


def test_cut_in_half(path):
  data = path.read_bytes()
  with tarfile.open(path) as archive:
    member = archive.getmembers()[6]
  path.write_bytes(data[: member.offset_data + 5])
  with pytest.raises(ValueError, match="is cut off or damaged") as info:
    tar.scan(epath.Path(path))
  expected = f"tar {str(path)!r} is cut off or damaged at byte {member.offset} of {member.offset_data + 5}: "
  expected += "6 members are readable, the next one is not (unexpected end of data)"
  assert str(info.value) == expected


@pytest.mark.parametrize("keep", range(100, 10240, 331))
def test_any_cut_is_told(path, keep):
  data = path.read_bytes()
  with tarfile.open(path) as archive:
    last = archive.getmembers()[-1]
  end = last.offset_data + last.size
  path.write_bytes(data[:keep])
  if keep < end:
    with pytest.raises(
      ValueError, match=r"is cut off or damaged at byte|is not a tar, or its first member is cut off"
    ):
      tar.scan(epath.Path(path))
  else:
    assert len(tar.scan(epath.Path(path))[0]) == 10


def test_compressed(path):
  squeezed = path.parent / "images.tar.gz"
  squeezed.write_bytes(gzip.compress(path.read_bytes()))
  with pytest.raises(ValueError, match="compressed") as info:
    tar.Tar(squeezed)
  assert (
    str(info.value) == f"tar {str(squeezed)!r} is compressed; random access needs a plain tar: decompress it first"
  )


def test_no_tar(tmp_path):
  with pytest.raises(FileNotFoundError) as info:
    tar.Tar(tmp_path / "none.tar")
  assert str(info.value) == f"tar {str(tmp_path / 'none.tar')!r} does not exist"
  (tmp_path / "text.tar").write_bytes(b"hello " * 200)
  with pytest.raises(ValueError, match="is not a tar"):
    tar.Tar(tmp_path / "text.tar")


def test_file_that_shrinks_later(path):
  store = tar.Tar(path)
  path.write_bytes(path.read_bytes()[:1500])
  with pytest.raises(ValueError, match=r"images.tar ends before byte \d+; \d+ bytes at \d+ were expected"):
    store.read(5)
