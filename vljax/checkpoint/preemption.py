"""Notice of the machine's end or of Ctrl-C: a signal becomes a question that the loop asks after each step."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from absl import logging
from jax.experimental import multihost_utils


@contextlib.contextmanager
def watch() -> Iterator[Callable[[int], bool]]:
  """Yields `preempted(step)`: whether to save this step and leave, asked once per step.

  A lone process answers from its own SIGTERM or SIGINT (Ctrl-C); a second one ends it at once. Several processes agree
  on a step that none has passed (JAX's preemption service takes the SIGTERM of any), so each must ask at every step.
  Outside the main thread Python handles no signals, and a lone process is never preempted.
  """
  if jax.process_count() > 1:
    yield lambda step: bool(multihost_utils.reached_preemption_sync_point(step))
    return
  noticed = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield lambda step: False
    return

  def handle(number, frame):
    del frame
    noticed.set()
    restore()
    logging.warning("%s: saving after this step; a second one ends the run at once", signal.Signals(number).name)

  def restore():
    for number, handler in before.items():
      signal.signal(number, handler)

  before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
  if before[signal.SIGINT] is signal.SIG_IGN:  # so do shells with what they start in the background
    del before[signal.SIGINT]
  for number in before:
    signal.signal(number, handle)
  try:
    yield lambda step: noticed.is_set()
  finally:
    restore()
