"""`tfds:NAME?data_dir=DIR`: a data set of TensorFlow Datasets over ArrayRecord, read without TensorFlow."""

from typing import Any

import numpy as np
from etils import epath

from vljax.data.sources.optional import package
from vljax.data.sources.source import Source, find_caption_fields

KEY_FIELDS = ("key", "id", "tfds_id", "image/filename", "filename")


class Tfds(Source):
  """A prepared data set by name and data_dir, or by the folder that holds its dataset_info.json.

  Nothing is downloaded or prepared; `part` is a split of TFDS, also a slice as `train[:90%]`. Pictures come as the
  encoded bytes; texts as str; a ClassLabel as `label` and `class`.
  """

  def __init__(
    self,
    path: str,
    *,
    data_dir: str | None = None,
    part: str = "train",
    image: str = "image",
    label: str = "label",
    caption: tuple[str, ...] = (),
  ):
    """Raises ImportError without the package, FileNotFoundError without the data, ValueError for another form."""
    package("importlib_resources", "tfds", "data")
    tfds = package("tensorflow_datasets", "tfds", "data")
    self.name, self.image_field, self.label_field = f"tfds:{path} ({part})", image, label
    builder = self._builder(tfds, path, data_dir)
    form = builder.info.file_format
    if form is None or form.value != "array_record":
      found = form.value if form else "nothing"
      raise ValueError(
        f"tfds:{path} is stored as {found}; random access needs array_record: convert it by launch/prepare.py"
      )
    features = builder.info.features
    decoders = {image: tfds.decode.SkipDecoding()} if image in features else None
    try:
      self.records = builder.as_data_source(split=part, decoders=decoders)
    except (KeyError, ValueError) as error:
      raise ValueError(
        f"tfds:{path}: part {part!r} cannot be read; legal: {', '.join(builder.info.splits)}"
      ) from error
    self.classes = tuple(getattr(dict(features).get(label), "names", None) or ()) or None
    self.credit = builder.info.citation or None
    self.caption_fields = find_caption_fields(features, caption)

  @staticmethod
  def _builder(tfds: Any, path: str, data_dir: str | None) -> Any:
    folder = epath.Path(path).expanduser()
    if (folder / "dataset_info.json").exists():
      return tfds.builder_from_directory(folder)
    try:
      builder = tfds.builder(path, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
      raise FileNotFoundError(f"tfds:{path}: no data set of that name in data_dir {data_dir!r}") from error
    if not (epath.Path(builder.data_dir) / "dataset_info.json").exists():
      raise FileNotFoundError(f"tfds:{path} is not prepared in {str(builder.data_dir)!r}; nothing is downloaded here")
    return builder

  def __len__(self) -> int:
    return len(self.records)

  def fields(self, index: int) -> dict[str, Any]:
    return self.record(index)[0]

  def image(self, index: int) -> bytes | None:
    return self.record(index)[1]

  def record(self, index: int) -> tuple[dict[str, Any], bytes | None]:
    try:
      found = dict(self.records[index])
    except Exception as error:  # of the reader, of protobuf or of a feature's decoder
      raise ValueError(f"{self.name}: record {index} is damaged ({error})") from error
    image = found.pop(self.image_field, None)
    row = {name: plain(value) for name, value in found.items()}
    if self.classes and self.label_field in row:
      row |= {"label": row[self.label_field], "class": self.classes[row[self.label_field]]}
    key = next((row[field] for field in KEY_FIELDS if row.get(field) not in (None, "")), index)
    return row | {"key": str(key)}, image


def plain(value: Any) -> Any:
  """A value of NumPy or TFDS as str, int, float, list or dict; arrays of numbers stay."""
  if isinstance(value, bytes):
    return value.decode(errors="replace")
  if isinstance(value, dict):
    return {name: plain(item) for name, item in value.items()}
  if (isinstance(value, np.ndarray) and value.dtype == object) or isinstance(value, list):
    return [plain(item) for item in value]
  if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
    return value.item()
  return value
