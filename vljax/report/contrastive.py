"""A contrastive run's report from its encoders, its held-out examples and its metrics file."""

import functools
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from vljax.data import decode
from vljax.evaluate import features, knn
from vljax.report.content import Curve, Picture, Query, Report, Score
from vljax.train import writers
from vljax.types import Array, Float, UInt8

CHANCE = "/chance"
THUMBNAIL = 160


def build(
  title: str,
  command: str,
  *,
  encode_image: Callable[[list[np.ndarray]], Float[Array, "n d"]],
  encode_text: Callable[[list[str]], Float[Array, "n d"]],
  examples: Sequence[Mapping[str, Any]],
  queries: Sequence[str] = (),
  metrics: epath.PathLike | None = None,
  credit: str = "",
  seconds: float | None = None,
  shown: int = 12,
  nearest: int = 5,
  per_query: int = 8,
  batch: int = 128,
  seed: int = 0,
) -> Report:
  """Fill a report: what the encoders make of held-out examples, and what the metrics file tells of the run.

  The pictures shown are drawn at random by `seed`, not chosen; their names compete with those of all examples.

  Args:
    encode_image, encode_text: exactly `batch` items -> unit vectors.
    examples: held out; each with `image` (encoded bytes, uint8 [h w c], or a PIL image) and `captions`, its right
      names. A source serves as it is: an example is read when it is needed and not kept.
    queries: typed texts, for each of which the nearest of all examples' pictures are shown.
    metrics: the run's metrics.jsonl or its directory; None leaves table and curves empty.
    seconds: how long the run took; None takes `time/elapsed` from the metrics.

  Raises:
    ValueError: no example, or one without image or captions.
    FileNotFoundError: there is no such metrics file.
  """
  rows = [] if metrics is None else writers.read(metrics)
  captions: dict[int, list[str]] = {}

  def encode_examples(indices: list[int]) -> Float[Array, "n d"]:
    read = [_example(examples, i) for i in indices]
    captions.update({i: list(example["captions"]) for i, example in zip(indices, read, strict=True)})
    return encode_image([decode.to_array(decode.open_rgb(example["image"])) for example in read])

  image_z = features.encode(encode_examples, range(len(examples)), batch)
  names = list(dict.fromkeys(name for i in range(len(examples)) for name in captions[i]))
  name_z = features.encode(encode_text, names, batch)
  chosen = [int(i) for i in np.sort(np.random.default_rng(seed).permutation(len(examples))[:shown])]
  _, near = knn.neighbors(image_z[chosen], name_z, min(nearest, len(names)))
  pictures = tuple(
    Picture(_thumbnail(examples, i), tuple(names[j] for j in row), tuple(captions[i]))
    for i, row in zip(chosen, near, strict=True)
  )
  elapsed = [row["time/elapsed"] for row in rows if row.get("time/elapsed") is not None]
  return Report(
    title=title,
    command=command,
    machine=machine(),
    seconds=elapsed[-1] if seconds is None and elapsed else seconds,
    scores=scores(rows),
    loss=_loss(rows),
    curves=_evaluations(rows),
    pictures=pictures,
    picture_note=f"{len(pictures)} of {len(examples):,} held-out pictures, drawn at random among {len(names):,} names",
    queries=_answers(queries, examples, image_z, encode_text, per_query, batch),
    query_note=f"the nearest of {len(examples):,} held-out pictures",
    credit=credit,
  )


def scores(rows: Sequence[Mapping[str, Any]]) -> tuple[Score, ...]:
  """The last value of each metric that has a chance beside it (`NAME/chance`), and of the median ranks."""
  last: dict[str, float] = {}
  for row in rows:
    last.update({name: x for name, x in row.items() if isinstance(x, int | float)})
  told = [name for name in last if name + CHANCE in last or name.endswith("/median_rank")]
  return tuple(Score(text, last[name], last.get(name + CHANCE)) for name, text in pretty(told).items())


def pretty(names: Sequence[str]) -> dict[str, str]:
  """Metrics' names for people, without the evaluation's name where the rest says enough.

  >>> pretty(["retrieval/image_to_text/R@10", "groups/top1"])
  {'retrieval/image_to_text/R@10': 'image → text R@10', 'groups/top1': 'groups top1'}
  """
  clear = lambda name: name.replace("_to_", " → ").replace("_", " ").replace("/", " ")
  short = {name: name.split("/", 1)[1] if name.count("/") > 1 else name for name in names}
  taken = list(short.values())
  return {name: clear(rest if taken.count(rest) == 1 else name) for name, rest in short.items()}


def machine() -> str:
  """The machine that runs this: devices, processor, versions."""
  kinds = [device.device_kind for device in jax.devices()]
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  info = epath.Path("/proc/cpuinfo")
  model = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
  cpu = f"{cores} cores of {model[1] if model else platform.machine()}"
  accelerators = "" if jax.default_backend() == "cpu" else f"{len(kinds)} x {kinds[0]}, "
  return f"{accelerators}{cpu}, jax {jax.__version__}, Python {platform.python_version()}"


def _answers(queries, examples, image_z, encode_text, per_query, batch) -> tuple[Query, ...]:
  if not queries:
    return ()
  text_z = features.encode(encode_text, list(queries), batch)
  _, near = knn.neighbors(text_z, image_z, min(per_query, len(examples)))
  show = functools.lru_cache(lambda i: _thumbnail(examples, i))
  return tuple(Query(text, tuple(show(int(i)) for i in row)) for text, row in zip(queries, near, strict=True))


def _loss(rows: Sequence[Mapping[str, Any]]) -> Curve | None:
  name = next((n for row in rows for n in row if n == "loss" or n.endswith("/loss")), None)
  return _curve(name, rows, name) if name else None


def _evaluations(rows: Sequence[Mapping[str, Any]]) -> tuple[Curve, ...]:
  """Recall@10 or top-1 over the run, where it was measured three times or more."""
  names = dict.fromkeys(name for row in rows for name in row if re.search(r"/R@10$|/top1$", name))
  curves = [_curve(text, rows, name) for name, text in pretty(list(names)).items()]
  return tuple(curve for curve in curves if len(curve.steps) >= 3)


def _curve(title: str, rows: Sequence[Mapping[str, Any]], name: str) -> Curve:
  points = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
  return Curve(title, *(tuple(side) for side in zip(*points, strict=True))) if points else Curve(title, (), ())


def _example(examples: Sequence[Mapping[str, Any]], index: int) -> Mapping[str, Any]:
  example = examples[index]
  if "image" not in example or not example.get("captions"):
    raise ValueError(f"example {index} of the report needs an image and captions; it has {sorted(example)}")
  return example


def _thumbnail(examples: Sequence[Mapping[str, Any]], index: int) -> UInt8[np.ndarray, "h w 3"]:
  image = decode.open_rgb(examples[index]["image"]).copy()  # thumbnail works in place
  image.thumbnail((THUMBNAIL, THUMBNAIL))
  return decode.to_array(image)
