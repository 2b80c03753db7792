"""The progress of a run on the terminal: a bar, or plain lines where there is none."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

import tqdm


class Progress:
  """A bar with loss, throughput, TFLOP/s and the time left; plain lines every few seconds without a terminal.

  Args:
    total: the number of the last step.
    start: how many steps were done before.
    loss: the metric to show, by full name; None takes the first named `loss` or ending in `/loss`.
    enabled: False shows nothing (every process but 0).
    every: seconds between plain lines.
  """

  def __init__(
    self,
    total: int,
    start: int = 0,
    *,
    loss: str | None = None,
    enabled: bool = True,
    every: float = 10.0,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._stream = stream or sys.stderr
    self._total, self._step, self._loss = total, start, loss
    self._enabled, self._every, self._clock, self._shown = enabled, every, clock, -float("inf")
    self._bar = None
    if enabled and self._stream.isatty():
      self._bar = tqdm.tqdm(
        total=total,
        initial=start,
        file=self._stream,
        dynamic_ncols=True,
        bar_format="{percentage:3.0f}% |{bar}| {desc}",
      )

  def update(self, step: int, scalars: Mapping[str, float]) -> None:
    """Show that `step` steps are done, with what they reported."""
    moved, self._step = step - self._step, step
    if not self._enabled:
      return
    text = line(step, self._total, scalars, self._loss)
    if self._bar is not None:
      self._bar.set_description_str(text, refresh=False)
      self._bar.update(moved)
    elif step >= self._total or self._clock() - self._shown >= self._every:
      self._shown = self._clock()
      self.say(text)

  def say(self, text: str) -> None:
    """A line of its own, above the bar."""
    if not self._enabled:
      return
    if self._bar is not None:
      self._bar.write(text, file=self._stream)
    else:
      print(text, file=self._stream, flush=True)

  def close(self) -> None:
    if self._bar is not None:
      self._bar.refresh()
      self._bar.close()

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *error) -> None:
    self.close()


def line(step: int, total: int, scalars: Mapping[str, float], loss: str | None = None) -> str:
  """One line of progress.

  >>> line(20, 100, {"clip/train/loss": 2.5, "throughput/examples_per_second": 1234.5, "time/left": 75.0})
  'step 20/100  loss 2.500  1,234 examples/s  1:15 left'
  """
  parts = [f"step {step:,}/{total:,}"]
  name = loss or next((n for n in scalars if n == "loss" or n.endswith("/loss")), None)
  if name in scalars:
    parts.append(f"loss {scalars[name]:.3f}")
  rate = scalars.get("throughput/examples_per_second")
  if rate is not None:
    parts.append(f"{rate:,.0f} examples/s" if rate >= 10 else f"{rate:.2f} examples/s")
  tflops = scalars.get("throughput/tflops_per_second")
  if tflops is not None:
    parts.append(f"{tflops:.3g} TFLOP/s")
  left = scalars.get("time/left")
  if left is not None:
    parts.append(f"{duration(left)} left")
  return "  ".join(parts)


def duration(seconds: float) -> str:
  """Seconds as a clock shows them.

  >>> duration(59.6), duration(3661)
  ('1:00', '1:01:01')
  """
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
