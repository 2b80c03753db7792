"""The bar on a terminal, plain lines elsewhere."""

import io

from vljax.train import progress

SCALARS = {
  "clip/train/loss": 2.5,
  "throughput/examples_per_second": 1234.5,
  "throughput/tflops_per_second": 0.25,
  "time/left": 75.0,
}


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_a_line_says_it_all():
  text = progress.line(20, 1000, SCALARS)
  assert text == "step 20/1,000  loss 2.500  1,234 examples/s  0.25 TFLOP/s  1:15 left"
  assert progress.line(1, 2, {}) == "step 1/2"
  assert (
    progress.line(1, 2, {"a": 1.0, "throughput/examples_per_second": 0.5}, "a")
    == "step 1/2  loss 1.000  0.50 examples/s"
  )


def test_plain_lines_come_seldom_and_the_last_always():
  stream, now = io.StringIO(), [0.0]
  with progress.Progress(30, stream=stream, every=10, clock=lambda: now[0]) as bar:
    for step in range(1, 31):
      now[0] += 1
      bar.update(step, SCALARS)
    bar.say("done")
  assert [text.split("  ")[0] for text in stream.getvalue().splitlines()] == [
    "step 1/30", "step 11/30", "step 21/30", "step 30/30", "done",
  ]  # fmt: skip
  assert "\r" not in stream.getvalue()


def test_a_terminal_gets_a_bar():
  stream = Terminal()
  with progress.Progress(4, start=2, stream=stream) as bar:
    bar.update(3, SCALARS)
    bar.say("a line of its own")
    bar.update(4, SCALARS)
  assert "100%" in stream.getvalue()
  assert "step 4/4  loss 2.500" in stream.getvalue()
  assert "a line of its own\n" in stream.getvalue()


def test_other_processes_are_silent():
  stream = Terminal()
  with progress.Progress(4, stream=stream, enabled=False) as bar:
    bar.update(4, SCALARS)
    bar.say("x")
  assert stream.getvalue() == ""


def test_durations():
  assert [progress.duration(s) for s in (0, 59.6, 3661)] == ["0:00", "1:00", "1:01:01"]
