"""Any source as array_record shards that are a TFDS directory as well, written without TensorFlow."""

import concurrent.futures
import dataclasses
import io
import json
import multiprocessing
import re
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from vljax.data import sources
from vljax.data.sources import files, record
from vljax.data.sources.array_record import MANIFEST
from vljax.data.sources.optional import package

VERSION = "1.0.0"
PLAN = "plan.json"
ROWS_PER_SHARD = 5000


@dataclasses.dataclass(frozen=True)
class Prepared:
  """What a folder holds: `count` examples of the split `part` in `shards` files; `broken` rows were left out; `done`
  was there before.
  """

  folder: epath.Path
  count: int
  shards: int
  broken: int
  part: str
  done: bool = False

  @property
  def uris(self) -> tuple[str, str]:
    """The two ways to open it."""
    part = "" if self.part == "train" else f"&part={self.part}"
    tfds = f"tfds:{self.folder.parent.name}?data_dir={self.folder.parent.parent}{part}"
    return f"array_record:{self.folder}", tfds


def prepare(
  uri: str,
  to: epath.PathLike,
  *,
  shards: int | None = None,
  workers: int = 1,
  part: str = "train",
  max_broken: float = 0.01,
) -> Prepared:
  """Writes the source to `TO/1.0.0`; the last part of `to` is the data set's name in TFDS, `part` its split.

  Order and fields of the examples stay; pictures are kept as they are encoded, arrays become PNG. Rows that cannot be
  read (no caption, no picture) are left out and logged. Shards are written under other names and the folder is renamed
  at the end: a run that was stopped goes on after its last whole shard, a complete folder is left as it is.

  Raises:
    ValueError: a name that TFDS does not take, a folder that holds another source, fields that shards cannot hold, or
      more than max_broken of the rows cannot be read.
    ImportError: without tensorflow-datasets.
  """
  package("tensorflow_datasets", "launch/prepare.py", "data")
  target = epath.Path(to).expanduser().resolve()
  if not re.fullmatch(r"[a-z][a-z0-9_]*", target.name):
    raise ValueError(f"{str(target)!r}: its last part names the data set; legal: a-z, 0-9 and _, a letter first")
  final, partial = target / VERSION, target / f".{VERSION}.partial"
  if (final / MANIFEST).exists():
    return _complete(final, uri, part)
  if final.exists():
    raise ValueError(f"{str(final)!r} exists but was not written by prepare: it has no {MANIFEST}")
  source = sources.open(uri)
  plan = _plan(source, uri, target.name, part, shards, max_broken)
  _begin(partial, plan)
  jobs = [(source, plan, number, str(partial)) for number in range(plan["shards"])]
  if workers > 1:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
      written = list(pool.map(write_shard, *zip(*jobs, strict=True)))
  else:
    written = [write_shard(*job) for job in jobs]
  broken = plan["rows"] - sum(written)
  _check_broken(broken, plan["rows"], max_broken, uri)
  _write_metadata(source, plan, written, partial)
  (partial / PLAN).unlink()
  partial.rename(final)
  return Prepared(final, sum(written), plan["shards"], broken, part)


def _complete(final: epath.Path, uri: str, part: str) -> Prepared:
  manifest = json.loads((final / MANIFEST).read_text())
  if manifest["source"] != uri:
    raise ValueError(
      f"{str(final)!r} was prepared from {manifest['source']!r}, not from {uri!r}; choose another folder"
    )
  part = manifest.get("part", part)
  return Prepared(final, manifest["count"], manifest["shards"], manifest["broken"], part, done=True)


def _check_broken(broken: int, rows: int, most: float, uri: str) -> None:
  if broken > most * rows or broken == rows:
    raise ValueError(f"{broken} of {rows} rows of {uri!r} cannot be read (see the log); at most {most:.2%} may be")


def _plan(
  source: sources.Source, uri: str, name: str, part: str, shards: int | None, max_broken: float
) -> dict[str, Any]:
  rows = len(source)
  count = shards or max(1, round(rows / ROWS_PER_SHARD))
  if not 1 <= count <= rows:
    raise ValueError(f"shards = {count}; legal: 1 to {rows}, the number of examples")
  types = record.types_of(_readable_rows(source))
  _check_broken(rows if not types else 0, rows, max_broken, uri)
  pictures = {"image": record.IMAGE, "media": record.MEDIA}
  first = next((example for example in _readable(source) if example.keys() - types.keys()), {})
  if lost := first.keys() - types.keys() - pictures.keys():
    raise ValueError(
      f"{uri!r}: shards cannot hold {', '.join(sorted(lost))}; legal: pictures and what is in rows: {', '.join(types)}"
    )
  types |= {name: kind for name, kind in pictures.items() if name in first}
  return {"source": uri, "name": name, "part": part, "rows": rows, "shards": count, "types": types}


def _readable_rows(source: sources.Source) -> Iterator[dict[str, Any]]:
  for index in range(len(source)):
    try:
      row = source.row(index)
    except (ValueError, OSError) as error:
      logging.warning("left out: %s", error)
      continue
    _check_fields(row, source.name)
    yield row


def _check_fields(row: dict[str, Any], where: str) -> None:
  for name, value in row.items():
    if record.type_of(value) != record.JSON:
      continue
    try:
      json.dumps(value)
    except TypeError as error:
      legal = "texts, numbers, true, false, null, and lists and objects of these"
      raise ValueError(f"{where}: {row['key']!r}: field {name!r}: {error}; legal: {legal}") from error


def _readable(source: sources.Source) -> Iterator[dict[str, Any]]:
  for index in range(len(source)):
    try:
      yield source[index]
    except (ValueError, OSError):
      continue


def _begin(partial: epath.Path, plan: dict[str, Any]) -> None:
  """An empty folder for the shards, or the one of a run with the same plan."""
  if (partial / PLAN).exists() and json.loads((partial / PLAN).read_text()) == plan:
    logging.info("%s: going on after the shards that are whole", partial)
    return
  if partial.exists():
    shutil.rmtree(partial)
  partial.mkdir(parents=True)
  (partial / PLAN).write_text(json.dumps(plan))


def write_shard(source: sources.Source, plan: dict[str, Any], number: int, folder: str) -> int:
  """Writes the rows of one shard, unless it is there; returns how many it holds."""
  from array_record.python import array_record_data_source, array_record_module  # pyright: ignore

  path = epath.Path(folder) / shard_name(plan, number)
  if path.exists():
    return len(array_record_data_source.ArrayRecordDataSource([str(path)]))
  bounds = np.linspace(0, plan["rows"], plan["shards"] + 1).round().astype(int)
  temporary = path.parent / f".{path.name}"
  writer = array_record_module.ArrayRecordWriter(str(temporary), "group_size:1")
  count = 0
  for index in range(bounds[number], bounds[number + 1]):
    try:
      data = record.encode(encoded(source[index]), plan["types"])
    except (ValueError, OSError) as error:
      logging.warning("left out: %s", error)
      continue
    writer.write(data)
    count += 1
  writer.close()
  temporary.rename(path)
  logging.info("shard %d of %d: %d examples", number + 1, plan["shards"], count)
  return count


def shard_name(plan: dict[str, Any], number: int) -> str:
  """The file name that TFDS gives to a shard."""
  return f"{plan['name']}-{plan['part']}.array_record-{number:05d}-of-{plan['shards']:05d}"


def encoded(example: dict[str, Any]) -> dict[str, Any]:
  """The example with its picture, or all of its media, as the bytes of files; an array becomes PNG.

  Raises:
    ValueError: the bytes are no picture that Pillow knows.
  """
  made = {"image": encoded_image(example["image"], example["key"])} if "image" in example else {}
  if "media" in example:
    made["media"] = [encoded_image(medium, example["key"]) for medium in example["media"]]
  return example | made


def encoded_image(image: bytes | np.ndarray, key: str) -> bytes:
  """The bytes of one picture's file."""
  from PIL import Image

  if isinstance(image, np.ndarray):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
  try:
    Image.open(io.BytesIO(image)).close()
  except OSError as error:
    raise ValueError(f"{key!r}: its {len(image)} bytes are no picture") from error
  return image


def _write_metadata(source: sources.Source, plan: dict[str, Any], written: list[int], folder: epath.Path) -> None:
  """features.json and dataset_info.json of TFDS, and our own manifest last."""
  import tensorflow_datasets as tfds

  template = tfds.core.ShardedFileTemplate(
    data_dir=folder, dataset_name=plan["name"], split=plan["part"], filetype_suffix="array_record"
  )
  size = sum(files.stamp(folder / shard_name(plan, n))[0] for n in range(plan["shards"]))
  split = tfds.core.SplitInfo(name=plan["part"], shard_lengths=written, num_bytes=size, filename_template=template)
  tfds.folder_dataset.write_metadata(
    data_dir=folder,
    features=_features(plan["types"], source.classes),
    split_infos=[split],
    version=VERSION,
    check_data=False,
    description=f"Written by vljax from {plan['source']}",
    citation=source.credit or "",
  )
  kept = {name: plan[name] for name in ("source", "part", "shards", "types")}
  count = sum(written)
  about = {"credit": source.credit, "classes": source.classes, "group_field": source.group_field}
  text = json.dumps(kept | about | {"count": count, "broken": plan["rows"] - count}, indent=2, ensure_ascii=False)
  files.write_atomically(folder / MANIFEST, text.encode())


def _features(types: dict[str, str], classes: tuple[str, ...] | None) -> Any:
  from tensorflow_datasets import features

  made = {
    record.IMAGE: lambda: features.Image(shape=(None, None, 3)),
    record.MEDIA: lambda: features.Sequence(features.Image(shape=(None, None, 3))),
    record.TEXT: features.Text,
    record.TEXTS: lambda: features.Sequence(features.Text()),
    record.INT: lambda: features.Scalar(np.int64),
    record.JSON: features.Text,
  }
  built = {name: made[kind]() for name, kind in types.items()}
  if classes and types.get("label") == record.INT:
    built["label"] = features.ClassLabel(names=list(classes))
  return features.FeaturesDict(built)
