"""`features:DIR`: what frozen towers gave for the pictures and captions of another source (vljax.encode)."""

import json
from typing import Any

import numpy as np
from etils import epath

from vljax.data.sources.source import Source

HEADER = "header.json"


class Features(Source):
  """One example per picture: `image_features` [d] and, where there were captions, `text_features` [n e]."""

  def __init__(self, path: str):
    """Raises FileNotFoundError if the folder or a shard is missing."""
    self.name = f"features:{path}"
    _, rows = read(path)
    self.keys, self.images, self.texts = rows["keys"], rows["image"], rows["text"]
    self.bounds = np.searchsorted(rows["owner"], np.arange(len(self.keys) + 1)) if len(self.texts) else None

  def __len__(self) -> int:
    return len(self.keys)

  def fields(self, index: int) -> dict[str, Any]:
    found = {"key": self.keys[index], "image_features": self.images[index]}
    if self.bounds is None:
      return found
    first, last = self.bounds[index : index + 2]
    return {**found, "text_features": self.texts[first:last]}

  def image(self, index: int) -> None:
    del index


def read_header(folder: epath.PathLike) -> dict[str, Any]:
  """What made the features of a folder.

  Raises:
    FileNotFoundError: no features there.
  """
  folder = epath.Path(folder)
  if not (folder / HEADER).exists():
    raise FileNotFoundError(f"{folder} holds no features: there is no {HEADER} in it; launch/encode.py makes them")
  return json.loads((folder / HEADER).read_text())


def read(folder: epath.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
  """(header, {"image": [n d], "text": [m e], "owner": [m], "keys": list}) of a finished folder.

  To what is in its file the header adds `broken`, the number of examples that could not be read and were left out.

  Raises:
    FileNotFoundError: no header, or a shard is missing; names it.
  """
  folder, header = epath.Path(folder), read_header(folder)
  widths = header["dim"] if isinstance(header["dim"], dict) else dict.fromkeys(("image", "text"), header["dim"])
  header["broken"] = 0
  parts: dict[str, list] = {"image": [], "text": [], "owner": [], "keys": []}
  offset = 0
  for shard in range(header["shards"]):
    name = f"{shard:05d}-of-{header['shards']:05d}"
    file = folder / f"rows-{name}.json"
    if not file.exists():
      raise FileNotFoundError(f"features are incomplete: {file} is missing")
    rows = json.loads(file.read_text())
    parts["keys"] += rows["keys"]
    header["broken"] += len(rows.get("broken", ()))
    parts["owner"].append(np.array(rows["owner"], np.int64) + offset)
    offset += len(rows["keys"])
    for tower in ("image", "text") if rows["owner"] else ("image",):
      parts[tower].append(_read_array(folder / f"{tower}-{name}.{header['format']}", widths[tower]))
  return header, {k: np.concatenate(v) if k != "keys" and v else v for k, v in parts.items()}


def _read_array(path: epath.Path, dim: int) -> np.ndarray:
  if not path.exists():
    raise FileNotFoundError(f"features are incomplete: {path} is missing")
  if path.suffix == ".npy":
    with path.open("rb") as file:
      return np.load(file, allow_pickle=False)
  from array_record.python.array_record_module import ArrayRecordReader

  reader = ArrayRecordReader(str(path))
  try:
    records = reader.read_all() if reader.num_records() else []
    return np.frombuffer(b"".join(records), np.float32).reshape(-1, dim)
  finally:
    reader.close()
