import json

import pytest
from etils import epath

from vljax.checkpoint import files


@pytest.fixture
def folder(tmp_path):
  folder = epath.Path(tmp_path)
  (folder / "state/d").mkdir(parents=True)
  (folder / "state/small").write_text("small")
  (folder / "state/d/large").write_bytes(bytes(files.SMALL + 1))
  (folder / "other").write_text("not listed")
  files.record(folder, ("state", "index"))
  return folder


def test_all_well(folder):
  files.check(folder)
  assert list(files.unseal(folder / files.LIST)) == ["state/d/large", "state/small"]
  (folder / "other").unlink()
  files.check(folder)


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("small", None, r"state/small is missing$"),
    ("small", b"smell", r"state/small is damaged: its contents do not have the checksum"),
    ("small", b"smal", r"state/small has 4 bytes; 5 were written$"),
    ("d/large", bytes(files.SMALL), rf"state/d/large has {files.SMALL} bytes; {files.SMALL + 1} were written$"),
  ],
)
def test_what_is_named(folder, name, content, message):
  file = folder / "state" / name
  if content is None:
    file.unlink()
  else:
    file.write_bytes(content)
  with pytest.raises(files.Damaged, match=message):
    files.check(folder)


def test_a_damaged_list_is_passed_over(folder):
  (folder / files.LIST).write_text((folder / files.LIST).read_text().replace("5", "6"))
  files.check(folder)
  (folder / files.LIST).unlink()
  files.check(folder)


def test_seal(tmp_path):
  file = epath.Path(tmp_path) / "sealed"
  body = {"b": [1, 2.5, None], "a": {"c": "é"}}
  file.write_text(json.dumps(files.seal(body)))
  assert files.unseal(file) == body
  file.write_text(file.read_text().replace("2.5", "2.6"))
  with pytest.raises(files.Damaged, match="sealed is damaged: its contents do not have the digest"):
    files.unseal(file)
  for content in ("", "[]", '{"body": 1}'):
    file.write_text(content)
    with pytest.raises(files.Damaged, match="sealed cannot be read"):
      files.unseal(file)
