import pytest
from etils import epath

from vljax.checkpoint.files import Damaged
from vljax.checkpoint.steps import newest, steps


@pytest.fixture
def folder(tmp_path):
  for name in ("1", "20", "3", "frozen", "5.damaged", "7.orbax-checkpoint-tmp-1"):
    (tmp_path / name).mkdir()
  return epath.Path(tmp_path)


def reader(*damaged):
  def read(path):
    if int(path.name) in damaged:
      raise Damaged(f"{path.name} is bad")
    return f"read {path.name}"

  return read


def test_in_order(folder):
  assert steps(folder) == [1, 3, 20]
  assert steps(folder / "nowhere") == []
  assert newest(folder / "frozen", reader()) is None


def test_way_back(folder, caplog):
  assert newest(folder, reader()) == ("read 20", 20, [])
  assert not caplog.records
  assert newest(folder, reader(20, 3)) == ("read 1", 1, [20, 3])
  assert [record.getMessage() for record in caplog.records] == [
    "using step 1, since later checkpoints are damaged: step 20: 20 is bad; step 3: 3 is bad"
  ]
  with pytest.raises(ValueError, match="step 20: 20 is bad; step 3: 3 is bad; step 1: 1 is bad$"):
    newest(folder, reader(1, 3, 20))


def test_one_step(folder):
  assert newest(folder, reader(), 3) == ("read 3", 3, [])
  with pytest.raises(ValueError, match="can be used: step 3: 3 is bad$"):
    newest(folder, reader(3), 3)
  with pytest.raises(FileNotFoundError, match=r"holds no step 4; found 1, 3, 20$"):
    newest(folder, reader(), 4)


def test_other_errors_pass(folder):
  def read(path):
    raise ValueError("another tree")

  with pytest.raises(ValueError, match="^another tree$"):
    newest(folder, read)
