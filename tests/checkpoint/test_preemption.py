import os
import signal
import threading

import pytest

from vljax.checkpoint import preemption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noticed_once(number, caplog):
  ended = []
  before = signal.signal(number, lambda *_: ended.append(True))
  try:
    with preemption.watch() as preempted:
      assert not preempted(1)
      os.kill(os.getpid(), number)
      assert preempted(2)
      assert not ended
      assert f"{number.name}: saving after this step; a second one ends the run at once" in caplog.text
      os.kill(os.getpid(), number)
      assert ended
    ended.clear()
    os.kill(os.getpid(), number)
    assert ended
  finally:
    signal.signal(number, before)


def test_an_ignored_interrupt_stays_ignored():
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with preemption.watch() as preempted:
      os.kill(os.getpid(), signal.SIGINT)
      assert not preempted(1)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
  finally:
    signal.signal(signal.SIGINT, before)


def test_other_threads_are_never_preempted():
  answers = []

  def run():
    with preemption.watch() as preempted:
      answers.append(preempted(1))

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert answers == [False]
