"""Agreement between the processes of a run; a lone process agrees with itself."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def agree(ok: bool) -> bool:
  """Whether all processes say so; each must ask."""
  if jax.process_count() == 1:
    return ok
  return bool(np.all(multihost_utils.process_allgather(np.array(ok))))


def first(action: Callable[[], Any]) -> None:
  """Do something in the first process only; the others wait for it.

  Raises:
    RuntimeError: it failed in the first process (which raises its own error).
  """
  error = None
  if jax.process_index() == 0:
    try:
      action()
    except Exception as caught:
      error = caught
  if not agree(error is None):
    raise error or RuntimeError("the first process failed; see its log")
