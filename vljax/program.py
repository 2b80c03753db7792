"""How programs end: a clear error is one line and status 1, Ctrl-C is 130; a fault of ours keeps its traceback."""

import os
import sys
from collections.abc import Callable

USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError)


def run(main: Callable[[list[str]], int]) -> int:
  """Run `main` on the command line's arguments; VLJAX_DEBUG=1 shows tracebacks of all errors."""
  try:
    return main(sys.argv[1:])
  except USER_ERRORS as error:
    if os.environ.get("VLJAX_DEBUG"):
      raise
    print(f"error: {error}", file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    if os.environ.get("VLJAX_DEBUG"):
      raise
    print("interrupted", file=sys.stderr)
    return 130
