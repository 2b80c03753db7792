import os
import signal
import threading

from vljax.checkpoint import preemption


def test_sigterm_is_noticed_once():
  ended = []
  before = signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
  try:
    with preemption.watch() as preempted:
      assert not preempted(1)
      os.kill(os.getpid(), signal.SIGTERM)
      assert preempted(2)
      assert not ended
      os.kill(os.getpid(), signal.SIGTERM)
      assert ended
    ended.clear()
    os.kill(os.getpid(), signal.SIGTERM)
    assert ended
  finally:
    signal.signal(signal.SIGTERM, before)


def test_other_threads_are_never_preempted():
  answers = []

  def run():
    with preemption.watch() as preempted:
      answers.append(preempted(1))

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert answers == [False]
