"""Who holds a workdir."""

import subprocess
import sys

import pytest

from vljax.checkpoint import lock

HOLDER = (
  "import sys, time; from vljax.checkpoint import lock\nwith lock.hold(sys.argv[1]): print(flush=True), time.sleep(60)"
)


def test_one_at_a_time(tmp_path):
  workdir = tmp_path / "run"
  message = f"^{workdir} is trained by another run, which holds {workdir}/lock; legal: one run at a time"
  with lock.hold(workdir), pytest.raises(ValueError, match=message):
    lock.hold(workdir, patience=0.3).__enter__()
  with lock.hold(workdir):
    pass


@pytest.mark.slow
def test_the_dead_hold_nothing(tmp_path):
  with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    with pytest.raises(ValueError, match="is trained by another run"):
      lock.hold(tmp_path, patience=0.0).__enter__()
    process.kill()
  with lock.hold(tmp_path, patience=5.0):
    pass
