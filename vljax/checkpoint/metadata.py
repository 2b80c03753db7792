"""What a run must remember besides its arrays, and the check that it still means the same."""

import dataclasses
import json
from typing import Any

from etils import epath

import vljax
from vljax import config as config_lib

FILE = "metadata.json"
LAYOUT = 1
"""The version of the names and shapes of stored parameters; raised when one changes, with a way to read the old."""


@dataclasses.dataclass(frozen=True)
class Metadata:
  """The memory of a run.

  Attributes:
    config: the run's config, as plain dicts.
    meaning: what changes results silently: activation, image mean, std, size and interpolation, tokenizer kind, hash
      and length, pooling and end-of-text rule.
    version: of the package that wrote it.
    layout: of the parameters (LAYOUT).
  """

  config: dict[str, Any] = dataclasses.field(default_factory=dict)
  meaning: dict[str, Any] = dataclasses.field(default_factory=dict)
  version: str = vljax.__version__
  layout: int = LAYOUT

  def to_json(self) -> dict[str, Any]:
    """Plain JSON values, as they will be read back (lists for tuples)."""
    return json.loads(json.dumps(config_lib.to_dict(self), default=str))


def check(found: Metadata, expected: Metadata, where: str = "the checkpoint") -> None:
  """Check that a stored run means what this one does.

  Raises:
    ValueError: the layout is unknown, or an item of `meaning` differs; names each with both values.
  """
  check_layout(found, where)
  differences = config_lib.diff(found.to_json()["meaning"], expected.to_json()["meaning"])
  if differences:
    listed = "; ".join(f"{key} is {a!r}, expected {b!r}" for key, (a, b) in differences.items())
    raise ValueError(f"{where} means something else than this run: {listed}")


def check_layout(found: Metadata, where: str) -> None:
  """Check that this package reads the stored layout.

  Raises:
    ValueError: it does not; names both versions.
  """
  if found.layout != LAYOUT:
    raise ValueError(
      f"{where} was written by vljax {found.version} with parameter layout {found.layout}; "
      f"vljax {vljax.__version__} reads layout {LAYOUT}"
    )


def write(workdir: epath.PathLike, metadata: Metadata) -> None:
  """Write WORKDIR/metadata.json, all or nothing."""
  workdir = epath.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  partial = workdir / f"{FILE}.partial"
  partial.write_text(json.dumps(metadata.to_json(), indent=2) + "\n")
  partial.replace(workdir / FILE)


def read(workdir: epath.PathLike) -> Metadata:
  """The metadata of a workdir.

  Raises:
    FileNotFoundError: there is no metadata.json.
    ValueError: it is no JSON, lacks a key or has an unknown one.
  """
  file = epath.Path(workdir) / FILE
  text = file.read_text()
  try:
    value = json.loads(text)
  except ValueError as error:
    raise ValueError(f"{file} is not JSON: {error}") from error
  missing = [f.name for f in dataclasses.fields(Metadata) if not isinstance(value, dict) or f.name not in value]
  if missing:
    raise ValueError(f"{file} lacks {', '.join(missing)}; it was not written by vljax")
  return config_lib.parse(value, Metadata, FILE)
