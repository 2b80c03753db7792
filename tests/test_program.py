import pytest

from vljax import program


def fail(error):
  def main(argv):
    raise error

  return main


@pytest.mark.parametrize("error", [ValueError("bad key"), FileNotFoundError("no file"), ImportError("no package")])
def test_an_error_of_the_user_is_one_line(error, capsys, monkeypatch):
  monkeypatch.delenv("VLJAX_DEBUG", raising=False)
  assert program.run(fail(error)) == 1
  assert capsys.readouterr().err == f"error: {error}\n"


def test_a_fault_of_ours_keeps_its_traceback():
  with pytest.raises(TypeError, match="ours"):
    program.run(fail(TypeError("ours")))


def test_an_interrupt_is_one_line(capsys, monkeypatch):
  monkeypatch.delenv("VLJAX_DEBUG", raising=False)
  assert program.run(fail(KeyboardInterrupt())) == 130
  assert capsys.readouterr().err == "interrupted\n"


def test_debugging_shows_every_traceback(monkeypatch):
  monkeypatch.setenv("VLJAX_DEBUG", "1")
  with pytest.raises(ValueError, match="bad key"):
    program.run(fail(ValueError("bad key")))


def test_the_status_of_a_good_end_is_passed_on(monkeypatch):
  monkeypatch.setattr("sys.argv", ["train.py", "--workdir=x"])
  assert program.run(lambda argv: 3 if argv == ["--workdir=x"] else 4) == 3
