"""Where a run's numbers and pictures go: JSONL, TensorBoard, wandb, PNG files; written by process 0 only."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging
from etils import epath
from PIL import Image

from vljax import config
from vljax.types import UInt8

FILE = "metrics.jsonl"


class Writer(Protocol):
  """Takes scalars and grids of pictures by step."""

  def write(self, step: int, scalars: Mapping[str, float]) -> None: ...

  def pictures(self, step: int, name: str, pictures: UInt8[np.ndarray, "n h w c"]) -> None: ...

  def close(self) -> None: ...


class Jsonl:
  """One JSON object a line: `step`, the scalars, and `nonfinite`, the names of those that were not finite (null).

  Numbers of steps after `start` from an earlier life of the run are dropped, and so is a line that a kill cut short.
  Every line is flushed.

  Args:
    start: how many steps were done when this process began; rows of later steps are written anew.
  """

  def __init__(self, directory: epath.PathLike, start: int = 0):
    path = epath.Path(directory) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
      kept = [row for row in _rows(path) if row["step"] <= start] if start else []
      temporary = path.with_suffix(".jsonl.new")
      temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
      temporary.replace(path)
    self._file = path.open("a", encoding="utf-8")

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    values = {name: float(value) for name, value in scalars.items()}
    bad = sorted(name for name, value in values.items() if not math.isfinite(value))
    row: dict[str, Any] = {"step": int(step), **values, **dict.fromkeys(bad)}
    self._file.write(json.dumps(row | ({"nonfinite": bad} if bad else {}), allow_nan=False) + "\n")
    self._file.flush()

  def pictures(self, step: int, name: str, pictures: UInt8[np.ndarray, "n h w c"]) -> None:
    """JSON holds no pictures."""

  def close(self) -> None:
    self._file.close()


class Png:
  """Grids of pictures as `DIRECTORY/samples/NAME/STEP.png`."""

  def __init__(self, directory: epath.PathLike):
    self._directory = epath.Path(directory) / "samples"

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """A picture holds no scalars."""

  def pictures(self, step: int, name: str, pictures: UInt8[np.ndarray, "n h w c"]) -> None:
    path = self._directory / name / f"{step:08d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
      Image.fromarray(grid(pictures)).save(file, format="PNG")

  def close(self) -> None:
    """Every picture was written at once."""


class TensorBoard:
  """Event files through tensorboardX, which needs no TensorFlow.

  Raises:
    ImportError: tensorboardX is not installed.
  """

  def __init__(self, directory: epath.PathLike, start: int = 0):
    tensorboardX = _import("tensorboardX", "pip install 'vljax[eval]'")
    self._writer = tensorboardX.SummaryWriter(str(directory), purge_step=start + 1 if start else None)

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    for name, value in scalars.items():
      self._writer.add_scalar(name, float(value), step)

  def pictures(self, step: int, name: str, pictures: UInt8[np.ndarray, "n h w c"]) -> None:
    self._writer.add_image(name, grid(pictures), step, dataformats="HWC")

  def close(self) -> None:
    self._writer.close()


class Wandb:
  """Weights & Biases; a resumed run goes on under the same id, which is derived from its directory.

  Raises:
    ImportError: wandb is not installed.
  """

  def __init__(self, directory: epath.PathLike, settings: Mapping[str, Any], project: str = "vljax"):
    self._wandb = _import("wandb", "pip install wandb")
    directory = epath.Path(directory).resolve()
    identity = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    self._run = self._wandb.init(
      project=project,
      name=directory.name,
      id=identity,
      dir=str(directory),
      config=dict(settings),
      resume="allow",
    )

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    self._run.log(dict(scalars), step=step)

  def pictures(self, step: int, name: str, pictures: UInt8[np.ndarray, "n h w c"]) -> None:
    self._run.log({name: self._wandb.Image(grid(pictures))}, step=step)

  def close(self) -> None:
    self._run.finish()


class Multi:
  """Several writers as one; none at all writes nothing."""

  def __init__(self, writers: Iterable[Writer] = ()):
    self._writers = tuple(writers)

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    for writer in self._writers:
      writer.write(step, scalars)

  def pictures(self, step: int, name: str, pictures: UInt8[np.ndarray, "n h w c"]) -> None:
    for writer in self._writers:
      writer.pictures(step, name, pictures)

  def close(self) -> None:
    for writer in self._writers:
      writer.close()

  def __enter__(self) -> "Multi":
    return self

  def __exit__(self, *error: Any) -> None:
    self.close()


KINDS: dict[str, Callable[[epath.Path, int, Mapping[str, Any]], Writer]] = {
  "jsonl": lambda directory, start, settings: Jsonl(directory, start),
  "png": lambda directory, start, settings: Png(directory),
  "tensorboard": lambda directory, start, settings: TensorBoard(directory / "tensorboard", start),
  "wandb": lambda directory, start, settings: Wandb(directory, settings),
}


def build(
  directory: epath.PathLike,
  kinds: Iterable[str] = ("jsonl", "png"),
  start: int = 0,
  process: int | None = None,
  settings: Mapping[str, Any] | None = None,
) -> Multi:
  """The writers of a run into its directory; on every process but 0 they write nothing.

  Args:
    kinds: names of KINDS.
    start: how many steps were done when this process began, 0 for a new run.
    process: this process's index; None asks JAX.
    settings: the run's config, for the kinds that keep it.

  Raises:
    ValueError: an unknown kind, on every process.
    ImportError: a kind's package is missing.
  """
  makers = [config.choose("writer in config.writers", kind, KINDS) for kind in kinds]
  if (jax.process_index() if process is None else process) != 0:
    return Multi()
  return Multi(make(epath.Path(directory), start, settings or {}) for make in makers)


def read(path: epath.PathLike) -> list[dict[str, Any]]:
  """The rows of a metrics file or of the directory it lies in, one per step, in order; non-finite values are None.

  Raises:
    FileNotFoundError: there is no such file.
  """
  path = epath.Path(path)
  path = path / FILE if path.is_dir() else path
  if not path.exists():
    raise FileNotFoundError(f"there is no metrics file {path}")
  steps: dict[int, dict[str, Any]] = {}
  for row in _rows(path):
    steps.setdefault(row["step"], {}).update(row)
  return [steps[step] for step in sorted(steps)]


def grid(
  pictures: UInt8[np.ndarray, "n h w c"], columns: int | None = None, gap: int = 2
) -> UInt8[np.ndarray, "h w 3"]:
  """The pictures side by side on white, as square as may be.

  Raises:
    ValueError: not n > 0 pictures of type uint8 with 1 or 3 channels.
  """
  pictures = np.asarray(pictures)
  if pictures.ndim != 4 or pictures.dtype != np.uint8 or pictures.shape[-1] not in (1, 3) or not len(pictures):
    raise ValueError(f"pictures must be uint8 [n h w 1 or 3]; found {pictures.dtype} {pictures.shape}")
  n, height, width, _ = pictures.shape
  columns = columns or math.ceil(math.sqrt(n))
  rows = math.ceil(n / columns)
  whole = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
  for i, picture in enumerate(pictures):
    y, x = i // columns * (height + gap), i % columns * (width + gap)
    whole[y : y + height, x : x + width] = picture
  return whole


def _rows(path: epath.Path) -> Iterable[dict[str, Any]]:
  for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
    try:
      row = json.loads(line)
      if not isinstance(row["step"], int):
        raise TypeError("step")
    except (ValueError, KeyError, TypeError):
      logging.warning("%s, line %d is no row of metrics (cut short by a kill?) and is left out", path, number)
      continue
    yield row


def _import(name: str, hint: str) -> Any:
  try:
    return __import__(name)
  except ImportError as error:
    raise ImportError(f"config.writers names a writer that needs the package {name}: {hint}") from error
