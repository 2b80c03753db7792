"""Images per second of our loader and of torch's DataLoader, on the same JPEGs, crops and number of workers.

`python -m benchmarks.loader [repeats]`

Each example is read from its file, decoded, cropped at random (scale 0.5 to 1), resized (bicubic) and flipped; batches
of 32 uint8 images come out. All loaders stay open and are measured in turn, `repeats` times; what lies prefetched is
thrown away before each measurement, and the median counts. `exact` decodes every pixel, as torchvision does; `gap 2`
lets the decoder halve a JPEG while the crop keeps two pixels a side for each one shown, `gap 1` one.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from benchmarks import rivals
from benchmarks.timing import Result
from vljax.data import transforms
from vljax.data.loader import Loader, Stream

BATCH = 32
SCALE = (0.5, 1.0)
FILES = 48
CASES = (((500, 375), 224), ((500, 375), 64), ((1024, 768), 224))
"""Sizes of the JPEGs, and of the crops."""


@dataclasses.dataclass(frozen=True)
class Files:
  """JPEG files as a source; the bytes are read at each access."""

  paths: tuple[str, ...]
  name: str = "files"

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, i: int) -> dict[str, Any]:
    return {"key": self.paths[i], "image": epath.Path(self.paths[i]).read_bytes()}


def write_photos(directory: epath.Path, count: int, size: tuple[int, int]) -> Files:
  """JPEGs of noise in several octaves, which compress about as photographs do."""
  rng = np.random.default_rng(0)
  for i in range(count):
    layers = []
    for octave in (4, 16, 64, 256):
      low = rng.integers(0, 256, (max(1, octave * size[1] // size[0]), octave, 3), dtype=np.uint8)
      layers.append(np.asarray(Image.fromarray(low).resize(size, Image.BICUBIC), np.float32))
    pixels = np.average(layers, axis=0, weights=(8, 4, 2, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    (directory / f"{i}.jpg").write_bytes(file.getvalue())
  return Files(tuple(str(directory / f"{i}.jpg") for i in range(count)))


def ours(source: Files, crop: int, gap: float | None, threads: int, workers: int) -> Loader:
  steps = [("decode",), ("random_resized_crop", crop, SCALE, {"gap": gap}), ("flip_lr",), ("keep", "image")]
  return Loader(Stream(source, transforms.build(steps)), BATCH, threads=threads, workers=workers)


def torchs(source: Files, crop: int, workers: int) -> Iterator[Any]:
  """torch's DataLoader with torchvision's transforms, endless."""
  rivals.transformers()  # makes torchvision importable
  import torch
  from torchvision import transforms as tv

  steps = tv.Compose(
    [
      tv.RandomResizedCrop(crop, SCALE, interpolation=tv.InterpolationMode.BICUBIC),
      tv.RandomHorizontalFlip(),
      tv.PILToTensor(),
    ]
  )

  class Photos(torch.utils.data.Dataset):
    def __len__(self):
      return len(source)

    def __getitem__(self, i):
      return steps(Image.open(source.paths[i]).convert("RGB"))

  sampler = torch.utils.data.RandomSampler(source, replacement=True, num_samples=10**7)
  return iter(torch.utils.data.DataLoader(Photos(), BATCH, sampler=sampler, num_workers=workers))


def rate(batches: Iterator[Any], count: int, skip: int) -> float:
  """Images per second over `count` batches, after `skip` that may have been made ahead."""
  for _ in itertools.islice(batches, skip):
    pass
  start = time.perf_counter()
  for _ in itertools.islice(batches, count):
    pass
  return count * BATCH / (time.perf_counter() - start)


def run(
  repeats: int = 5, workers: int | None = None, cases: Sequence[tuple[tuple[int, int], int]] = CASES, count: int = 6
) -> dict[str, Any]:
  """A table of images per second and of ratios to torch, fit for JSON; without torch, of our loader alone."""
  workers = workers or min(8, os.cpu_count() or 1)
  load = os.getloadavg()[0]
  rows = []
  for size, crop in cases:
    with tempfile.TemporaryDirectory() as directory:
      medians = measure(write_photos(epath.Path(directory), FILES, size), crop, workers, repeats, count)
    for name, value in medians.items():
      times = round(value / medians["torch"], 2) if "torch" in medians else "not installed"
      rows.append(
        {"JPEG": f"{size[0]} x {size[1]}", "crop": crop, "loader": name, "images/s": value, "x torch": times}
      )
  notes = [f"{workers} workers on {os.cpu_count()} cores; the machine's load was {load:.1f} before this benchmark."]
  title = f"Loader against torch's DataLoader: JPEG to uint8 batches of {BATCH}"
  return dataclasses.asdict(Result(title, rows, "1.5x torch's DataLoader", notes))


def measure(source: Files, crop: int, workers: int, repeats: int, count: int) -> dict[str, float]:
  """Median images per second of each loader."""
  with contextlib.ExitStack() as stack:
    loaders: dict[str, Iterator[Any]] = {"torch": torchs(source, crop, workers)} if rivals.installed() else {}
    loaders["exact, processes"] = stack.enter_context(ours(source, crop, None, 0, workers))
    loaders["exact, threads"] = stack.enter_context(ours(source, crop, None, workers, 0))
    loaders["gap 2 (default), threads"] = stack.enter_context(ours(source, crop, 2.0, workers, 0))
    loaders["gap 1, threads"] = stack.enter_context(ours(source, crop, 1.0, workers, 0))
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(repeats):
      for name, batches in loaders.items():
        rates[name].append(rate(batches, count, skip=4 * workers + 2))
  return {name: round(statistics.median(values), 1) for name, values in rates.items()}


if __name__ == "__main__":
  outcome = run(*map(int, sys.argv[1:2]))
  print("\n".join([outcome["title"], *(str(tuple(row.values())) for row in outcome["rows"]), *outcome["notes"]]))
  print(json.dumps(outcome))
