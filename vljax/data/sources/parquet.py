"""`hf:PATH`: parquet or arrow files as Hugging Face datasets writes them, read by pyarrow."""

import bisect
import collections
import functools
import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from vljax import config
from vljax.data.sources import files, globs
from vljax.data.sources.optional import package
from vljax.data.sources.source import Source, find_caption_fields

KEY_FIELDS = ("key", "id", "image_id", "__key__", "file_name", "filename")
HELD = 4
"""Row groups that a process holds at once."""


class Parquet(Source):
  """Rows of all files in the order of their names. The path is a file, a pattern, or a folder searched in depth.

  The picture is the column `image=`, else the first one of structs {bytes, path}; a path without bytes is relative
  to its file. The features that datasets stores in the schema name the classes of `label=`. Reading one row reads its
  row group: for shuffled training over large groups, convert with launch/prepare.py.
  """

  def __init__(self, path: str, *, image: str = "", label: str = "label", caption: tuple[str, ...] = ()):
    """Raises ImportError without pyarrow, FileNotFoundError without files, ValueError for a damaged one."""
    package("pyarrow", "hf", "data")
    self.name = f"hf:{path}"
    self.files = [open_table(str(found)) for found in table_files(path)]
    groups = [(number, group, size) for number, file in enumerate(self.files) for group, size in enumerate(file.sizes)]
    self.groups = [(number, group) for number, group, _ in groups]
    self.starts = np.concatenate([[0], np.cumsum([size for *_, size in groups])]).astype(np.int64)
    if not self.starts[-1]:
      raise ValueError(f"{self.name} holds no row")
    schema = self.files[0].schema
    for file in self.files:
      if file.schema.names != schema.names:
        raise ValueError(
          f"{file.path!r} has the columns {file.schema.names}; {self.files[0].path!r} has {schema.names}"
        )
    self.image_field = image_column(schema, image, self.name)
    self.columns = [name for name in schema.names if name != self.image_field]
    self.label_field, self.classes = label, class_names(schema, label)
    self.caption_fields = find_caption_fields(dict.fromkeys(schema.names), caption)
    self._held: collections.OrderedDict = collections.OrderedDict()
    self._lock = threading.Lock()

  def __getstate__(self) -> dict[str, Any]:
    return {name: value for name, value in vars(self).items() if name not in ("_held", "_lock")}

  def __setstate__(self, state: dict[str, Any]) -> None:
    vars(self).update(state, _held=collections.OrderedDict(), _lock=threading.Lock())

  def __len__(self) -> int:
    return int(self.starts[-1])

  def fields(self, index: int) -> dict[str, Any]:
    row = self._row(index, tuple(self.columns))
    if self.classes and isinstance(row.get(self.label_field), int) and row[self.label_field] >= 0:
      row |= {"label": row[self.label_field], "class": self.classes[row[self.label_field]]}
    named = next((row[field] for field in KEY_FIELDS if row.get(field) is not None), index)
    return row | {"key": str(named)}

  def image(self, index: int) -> bytes | None:
    if not self.image_field:
      return None
    value = self._row(index, (self.image_field,))[self.image_field]
    if isinstance(value, dict) and value.get("bytes") is None and value.get("path"):
      number, _ = self.groups[self._group(index)]
      folder = epath.Path(self.files[number].path).parent
      return files.existing(folder / value["path"], f"{self.name}: row {index}: image").read_bytes()
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
      raise ValueError(f"{self.name}: row {index}: column {self.image_field!r} holds no picture but {data!r}")
    return data

  def _group(self, index: int) -> int:
    return bisect.bisect_right(self.starts, index) - 1

  def _row(self, index: int, columns: tuple[str, ...]) -> dict[str, Any]:
    group = self._group(index)
    with self._lock:
      table = self._held.pop((group, columns), None)
      if table is None:
        number, within = self.groups[group]
        table = self.files[number].read(within, columns)
        if table.num_rows != self.files[number].sizes[within]:
          raise ValueError(f"{self.files[number].path!r}: row group {within} is damaged: {table.num_rows} rows")
      self._held[group, columns] = table
      while len(self._held) > HELD:
        self._held.popitem(last=False)
    at = index - int(self.starts[group])
    return {name: table.column(name)[at].as_py() for name in columns}


class ParquetFile:
  """A parquet file by row group."""

  def __init__(self, path: str):
    """Raises ValueError if it is cut off or not parquet."""
    self.path = path
    try:
      metadata = self._file.metadata
    except Exception as error:  # ArrowInvalid, or OSError for damaged pages
      size = files.stamp(epath.Path(path))[0]
      raise ValueError(f"{path!r} ({size} bytes) is cut off or no parquet file: {error}") from error
    self.schema = self._file.schema_arrow
    self.sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]

  @functools.cached_property
  def _file(self) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(self.path if "://" not in self.path else epath.Path(self.path).open("rb"))

  def __getstate__(self) -> dict[str, Any]:
    return {name: value for name, value in vars(self).items() if name != "_file"}

  def read(self, group: int, columns: Sequence[str]) -> Any:
    """The table of one row group.

    Raises:
      ValueError: its pages are damaged.
    """
    try:
      return self._file.read_row_group(group, columns=list(columns))
    except OSError as error:
      raise ValueError(f"{self.path!r}: row group {group} is damaged: {error}") from error


class ArrowFile:
  """An arrow stream or file by record batch, mapped into memory."""

  def __init__(self, path: str):
    """Raises ValueError if it is cut off or not arrow."""
    self.path = path
    self.schema = self._batches[0].schema
    self.sizes = [batch.num_rows for batch in self._batches]

  @functools.cached_property
  def _batches(self) -> list[Any]:
    import pyarrow as pa

    try:
      mapped = pa.memory_map(self.path)
      try:
        file = pa.ipc.open_file(mapped)
        batches = [file.get_batch(n) for n in range(file.num_record_batches)]
      except pa.ArrowInvalid:
        mapped.seek(0)
        batches = list(pa.ipc.open_stream(mapped))
    except (pa.ArrowException, OSError) as error:
      raise ValueError(f"{self.path!r} is cut off or no arrow file: {error}") from error
    if not batches:
      raise ValueError(f"{self.path!r} holds no row")
    return batches

  def __getstate__(self) -> dict[str, Any]:
    return {name: value for name, value in vars(self).items() if name != "_batches"}

  def read(self, group: int, columns: Sequence[str]) -> Any:
    """The columns of one record batch, validated: offsets that point outside it would crash the process.

    Raises:
      ValueError: it is damaged.
    """
    batch = self._batches[group].select(list(columns))
    try:
      batch.validate(full=True)
    except ValueError as error:
      raise ValueError(f"{self.path!r}: record batch {group} is damaged: {error}") from error
    return batch


def open_table(path: str) -> ParquetFile | ArrowFile:
  """The reader that the suffix asks for."""
  return ArrowFile(path) if path.endswith(".arrow") else ParquetFile(path)


def table_files(path: str) -> list[epath.Path]:
  """The parquet or arrow files of a path.

  Raises:
    FileNotFoundError: there is none.
  """
  folder = epath.Path(path).expanduser()
  if not folder.is_dir():
    return globs.expand(path)
  found = [folder / name for name in files.below(folder, (".parquet", ".arrow"))]
  if not found:
    raise FileNotFoundError(f"folder {path!r} holds no .parquet and no .arrow file, nor do its subfolders")
  return found


def image_column(schema: Any, chosen: str, where: str) -> str:
  """The chosen column, else the first of structs with the field bytes, else a binary one named image, else none.

  Raises:
    ValueError: the chosen column does not exist.
  """
  import pyarrow as pa

  if chosen:
    if chosen not in schema.names:
      raise ValueError(f"{where}: " + config.unknown(f"image column {chosen!r}", chosen, schema.names))
    return chosen
  for field in schema:
    if pa.types.is_struct(field.type) and "bytes" in [inner.name for inner in field.type]:
      return field.name
  binary = [field.name for field in schema if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)]
  return "image" if "image" in binary else ""


def class_names(schema: Any, label: str) -> tuple[str, ...] | None:
  """The names of a ClassLabel column, from the features that datasets stores in the schema."""
  stored = (schema.metadata or {}).get(b"huggingface")
  if not stored:
    return None
  feature = json.loads(stored).get("info", {}).get("features", {}).get(label, {})
  return tuple(feature.get("names") or ()) or None if isinstance(feature, dict) else None
