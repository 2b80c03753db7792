"""`array_record:GLOB`: shards that vljax.prepare wrote, or any ArrayRecord shards of tf.train.Example."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from vljax.data.sources import globs, record
from vljax.data.sources.source import Source, find_caption_fields

MANIFEST = "vljax.json"
"""Beside the shards: count, types of the fields, classes and credit of the source."""


class ArrayRecord(Source):
  """Examples of all shards in their order. The path is a pattern, or a folder that holds shards.

  To split by a field reads every record once; of a large set rather prepare each side by itself.
  """

  def __init__(self, path: str, *, caption: tuple[str, ...] = ()):
    """Raises FileNotFoundError if no shard fits, ValueError for damaged shards or fewer examples than were written."""
    self.name = f"array_record:{path}"
    folder = epath.Path(path).expanduser()
    pattern = str(folder / "*.array_record*") if folder.is_dir() else path
    shards = globs.expand(pattern)
    self.records = reader(shards)
    manifest = shards[0].parent / MANIFEST
    known = json.loads(manifest.read_text()) if manifest.exists() else {}
    self.types: Mapping[str, str] | None = known.get("types")
    self.credit, self.classes = known.get("credit"), tuple(known.get("classes") or ()) or None
    if pattern != path and known and known["count"] != len(self.records):
      raise ValueError(f"{self.name} holds {len(self.records)} examples; {str(manifest)!r} says {known['count']}")
    self.group_field = known.get("group_field", "key")
    self.caption_fields = find_caption_fields(self.fields(0), caption)

  def __len__(self) -> int:
    return len(self.records)

  def fields(self, index: int) -> dict[str, Any]:
    fields = self.record(index)[0]
    fields.pop(record.MEDIA, None)
    return fields

  def image(self, index: int) -> bytes | None:
    return self.record(index)[1]

  def record(self, index: int) -> tuple[dict[str, Any], bytes | None]:
    fields = self._decoded(index)
    return fields, fields.pop("image", None)

  def _decoded(self, index: int) -> dict[str, Any]:
    try:
      data = self.records[index]
    except Exception as error:  # the reader raises RuntimeError, IndexError and others for damaged chunks
      raise ValueError(f"{self.name}: record {index} is damaged ({error})") from error
    return {"key": str(index)} | record.decode(data, self.types)


def reader(shards: list[epath.Path]) -> Any:
  """Random access to the records of shards.

  Raises:
    ValueError: a shard is empty, cut off or no ArrayRecord; it is named.
  """
  from array_record.python import array_record_data_source

  for shard in shards:
    try:
      count = len(array_record_data_source.ArrayRecordDataSource([str(shard)]))
    except Exception as error:  # the reader raises bare RuntimeError, or ValueError from C++
      raise ValueError(f"{str(shard)!r} is cut off or no ArrayRecord file ({error})") from error
    if not count:
      raise ValueError(f"{str(shard)!r} holds no record")
  return array_record_data_source.ArrayRecordDataSource([str(shard) for shard in shards])
