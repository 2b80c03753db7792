"""One life at a time: a second run would take what the first one is saving for what a kill left behind."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging
from etils import epath

from vljax.parallel import processes

FILE = "lock"


@contextlib.contextmanager
def hold(workdir: epath.PathLike, patience: float = 60.0) -> Iterator[None]:
  """Holds a workdir until the end; who died holds nothing. Buckets, and file systems without locks, are not held.

  Args:
    patience: seconds to wait for another run's end, which may be saving.

  Raises:
    ValueError: it did not end.
  """
  workdir = epath.Path(workdir)
  if "://" in str(workdir):
    yield
    return
  workdir.mkdir(parents=True, exist_ok=True)
  with (workdir / FILE).open("a") as file:
    if not processes.agree(jax.process_index() > 0 or _locked(file, patience)):
      raise ValueError(f"{workdir} is trained by another run, which holds {workdir / FILE}; legal: one run at a time")
    yield


def _locked(file: Any, patience: float) -> bool:
  end = time.monotonic() + patience
  while True:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return True
    except BlockingIOError:
      if time.monotonic() > end:
        return False
      logging.log_first_n(logging.WARNING, "%s is held by another run: waiting for its end", 1, file.name)
      time.sleep(0.2)
    except OSError:
      return True
