"""Features of a source by a dual encoder, in shards that know what made them; an interrupted run goes on.

TO/header.json                    what made them: hash of the weights, preprocessing and activation (`meaning`),
                                  tokenizer, source, width, counts
TO/image-00000-of-00004.npy       float32 [rows d], one row per picture (or .array_record, a record of d floats each)
TO/text-00000-of-00004.npy        float32 [rows d], one row per caption of the pictures of that shard
TO/rows-00000-of-00004.json       keys of the pictures, for each caption the number of its picture in the shard, and
                                  key and cause of each example that was broken and is left out
"""

import contextlib
import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np
from absl import logging
from etils import epath

from vljax import config, tree
from vljax.data import sources
from vljax.data.batching import Broken, Failure
from vljax.data.loader import Stream
from vljax.data.sources.features import HEADER, read, read_header
from vljax.evaluate.features import check_batch
from vljax.hub import Bundle
from vljax.layers.batch_norm import STATISTICS
from vljax.models.dual_encoder import DualEncoder
from vljax.recipes.clip import Preprocess
from vljax.types import Params

__all__ = ["HEADER", "Format", "Level", "check", "meaning", "read", "weights_hash", "write"]

Format = Literal["npy", "array_record"]
Level = Literal["joint", "tower"]
"""Unit vectors of the joint space, or what the towers give before it: to train projections on (`features:DIR`)."""

LEVELS = {"joint": ("encode_image", "encode_text"), "tower": ("image_features", "text_features")}


def write(
  bundle: Bundle,
  uri: str,
  to: epath.PathLike,
  *,
  shards: int = 1,
  format: Format = "npy",
  batch: int = 64,
  level: Level = "joint",
  max_broken: float = 0.01,
) -> dict[str, Any]:
  """Encode every picture of a source, and its captions if it has them; returns the header.

  Shards that are already there are kept if the header is the same. Several processes share the shards. Examples that
  cannot be read are logged and left out; the header that is returned has their number as `broken`.

  Args:
    max_broken: the share of broken examples, of this process's or of 100 if it has fewer, that is allowed.

  Raises:
    ValueError: the folder holds features of other weights, another meaning or another source (names what differs),
      more examples cannot be read than allowed (names the last one), or the model does not have the level.
  """
  config.choose("format", format, dict.fromkeys(("npy", "array_record")))
  config.choose("level", level, LEVELS)
  _check_model(bundle, level)
  check_batch(batch)
  if not 0 <= max_broken <= 1:
    raise ValueError(f"max_broken = {max_broken}; legal: a share, 0 to 1")
  source, to = sources.open(uri), epath.Path(to).expanduser()
  if not 1 <= shards <= len(source):
    raise ValueError(f"shards = {shards}; legal: 1 to {len(source)}, the number of examples of {source.name}")
  header = {
    "weights": weights_hash(bundle.params, level),
    "meaning": meaning(bundle.model, bundle.rules),
    "tokenizer": None if bundle.tokenizer is None else bundle.tokenizer.sha256,
    "source": uri,
    "examples": len(source),
    "dim": _widths(bundle) if level == "tower" else bundle.dim,
    "dtype": "float32",
    "format": format,
    "shards": shards,
    **({"level": level} if level != "joint" else {}),
  }
  _check_header(to, header)
  bounds = np.linspace(0, len(source), shards + 1).astype(int)
  parts = {
    f"{shard:05d}-of-{shards:05d}": range(bounds[shard], bounds[shard + 1])
    for shard in range(jax.process_index(), shards, jax.process_count())
  }
  broken = Broken(max_broken, minimum=max(Broken.minimum, sum(map(len, parts.values()))))
  see = lambda example, rng: example | {"image": bundle.preprocess(example["image"])}
  stream = Stream(source, see, shuffle=False)
  for name, rows in parts.items():
    if (to / f"rows-{name}.json").exists():
      logging.info("shard %s of %s is there already", name, to)
      there = json.loads((to / f"rows-{name}.json").read_text())
      broken.add(len(there["keys"]), [Failure(*pair) for pair in there.get("broken", ())])
      continue
    _write_shard(bundle, stream, rows, broken, header, to, name, batch)
  if broken.last is not None and broken.count == broken.seen:
    raise ValueError(f"no example of {uri} can be read; the last one is {broken.last.key}: {broken.last.cause}")
  return {**header, "broken": broken.count}


def _check_model(bundle: Any, level: Level) -> None:
  if not isinstance(bundle, Bundle):
    raise ValueError(f"a {type(bundle).__name__} has no features to write; legal: dual encoders, networks of pictures")
  if level == "tower" and not isinstance(bundle.model, DualEncoder):
    raise ValueError(f"level = 'tower' of a {type(bundle.model).__name__}; legal: a DualEncoder, or level = 'joint'")


def weights_hash(params: Params, level: Level = "joint") -> str:
  """The sha256 of all parameters with their names; at the level of the towers, of theirs."""
  digest = hashlib.sha256()
  for name, leaf in sorted(tree.flatten(params).items()):
    if level == "tower" and name.split("/")[0] not in ("image", "text", STATISTICS):
      continue
    digest.update(name.encode())
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()


def meaning(model: Any, rules: Preprocess) -> dict[str, Any]:
  """What changes features without changing weights: preprocessing and the towers' activations, as read from JSON."""
  mean, std = rules.constants
  towers = {name: getattr(model, name, None) for name in ("image", "text", "backbone")}
  found = {
    "activation": {name: tower.activation for name, tower in towers.items() if tower is not None},
    "mean": mean,
    "std": std,
    "interpolation": rules.interpolation,
    "resize": rules.resize,
  }
  return json.loads(json.dumps(found))


def check(folder: epath.PathLike, params: Params, meaning: dict[str, Any]) -> None:
  """Whether a folder's features are of these very towers, so that projections trained on them fit the whole model.

  Raises:
    FileNotFoundError: no features there.
    ValueError: features of other towers, of towers that mean something else, or of the joint space.
  """
  file = epath.Path(folder) / HEADER
  header = read_header(folder)
  level, weights = header.get("level", "joint"), weights_hash(params, "tower")
  if level != "tower":
    raise ValueError(f"{file} says level = {level!r}; legal: 'tower', by launch/encode.py --level=tower")
  if header["weights"] != weights:
    raise ValueError(
      f"{file} is of towers with the weights {header['weights'][:12]}, the run's have {weights[:12]}; legal: features "
      f"that launch/encode.py --level=tower made with this config's variant, seed and init"
    )
  if changes := _changes(file, header, {**header, "meaning": meaning}):
    raise ValueError(
      f"{file} is of towers that mean something else: {changes}; legal: features that launch/encode.py --level=tower "
      f"made with this config's preprocess and activations"
    )


def _widths(bundle: Bundle) -> dict[str, int]:
  towers: dict[str, Any] = {"image": bundle.model.image, "text": bundle.model.text}
  return {name: tower.width for name, tower in towers.items()}


def _check_header(to: epath.Path, header: dict[str, Any]) -> None:
  to.mkdir(parents=True, exist_ok=True)
  if not (to / HEADER).exists():
    _atomic(to / HEADER, (json.dumps(header, indent=2) + "\n").encode())
  if changes := _changes(to / HEADER, json.loads((to / HEADER).read_text()), header):
    raise ValueError(f"{to} holds other features: {changes}; encode into another folder")


def _changes(file: epath.Path, before: dict[str, Any], now: dict[str, Any]) -> str:
  """What a header says otherwise than before; older headers have no `meaning`, which is then not compared."""
  if "meaning" not in before:
    logging.warning("%s does not say the preprocessing and activation of its features: they are not compared", file)
    now = {key: value for key, value in now.items() if key != "meaning"}
  return "; ".join(f"{key} is {old!r}, now {new!r}" for key, (old, new) in config.diff(before, now).items())


def _write_shard(
  bundle: Bundle,
  stream: Stream,
  rows: range,
  broken: Broken,
  header: dict[str, Any],
  to: epath.Path,
  name: str,
  batch: int,
) -> None:
  of_images, of_texts = (getattr(bundle, method) for method in LEVELS[header.get("level", "joint")])
  keys, owner, texts, pictures, images = [], [], [], [], []
  failures: list[Failure] = []
  for example in _readable(stream, rows, broken, failures):
    captions = example.get("captions", [])
    texts += captions
    owner += [len(keys)] * len(captions)
    keys.append(example["key"])
    pictures.append(example["image"])
    if len(pictures) == batch:
      images.append(of_images(pictures, batch))
      pictures = []
  if pictures:
    images.append(of_images(pictures, batch))
  format, dim = header["format"], header["dim"]
  empty = np.zeros((0, dim["image"] if isinstance(dim, dict) else dim), np.float32)
  _write_array(to / f"image-{name}.{format}", np.concatenate(images or [empty]), format)
  if texts and bundle.tokenizer is not None:
    _write_array(to / f"text-{name}.{format}", of_texts(texts), format)
  else:
    owner = []
  written = {"keys": keys, "owner": owner, "broken": [dataclasses.astuple(failure) for failure in failures]}
  _atomic(to / f"rows-{name}.json", json.dumps(written).encode())


def _readable(stream: Stream, rows: range, broken: Broken, failures: list[Failure]) -> Iterator[dict[str, Any]]:
  """The examples that can be read; what went wrong with the others is counted in `broken` and put into `failures`."""
  for i in rows:
    example, failure = stream.read(i, np.random.default_rng(0))
    broken.add(int(example is not None), [failure] if failure else ())
    if failure:
      failures.append(failure)
    else:
      yield example


def _write_array(path: epath.Path, array: np.ndarray, format: Format) -> None:
  with _whole(path) as temporary:
    if format == "npy":
      with temporary.open("wb") as file:
        np.save(file, array.astype(np.float32))
    else:
      from array_record.python.array_record_module import ArrayRecordWriter

      writer = ArrayRecordWriter(str(temporary), "group_size:1")
      for row in array.astype(np.float32):
        writer.write(row.tobytes())
      writer.close()


def _atomic(path: epath.Path, data: bytes) -> None:
  with _whole(path) as temporary:
    temporary.write_bytes(data)


@contextlib.contextmanager
def _whole(path: epath.Path) -> Iterator[epath.Path]:
  """A name that no other process has, for a file that gets its own once it is whole."""
  temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
  try:
    yield temporary
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)
