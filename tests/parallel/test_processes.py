import pytest

from vljax.parallel import processes


def test_a_lone_process():
  assert processes.agree(True)
  assert not processes.agree(False)
  done = []
  processes.first(lambda: done.append(1))
  assert done == [1]


def test_the_first_process_s_error_is_its_own():
  def fail():
    raise OSError("disk full")

  with pytest.raises(OSError, match="disk full"):
    processes.first(fail)
