"""TFDS directories: names, parts, types of features, and what cannot be read."""

import numpy as np
import pytest

from vljax import prepare
from vljax.data import sources
from vljax.data.sources import example, tfds

pytest.importorskip("tensorflow_datasets")


@pytest.fixture
def shapes(tmp_path):
  prepare.prepare("synthetic:pairs?n=5&size=8", tmp_path / "shapes")
  return tmp_path


def test_by_name_by_folder_and_by_slice(shapes):
  named = sources.open(f"tfds:shapes?data_dir={shapes}")
  assert len(named) == 5
  assert named[2] == sources.open(f"tfds:{shapes}/shapes/1.0.0")[2]
  assert named[2]["class"] == named.classes[named[2]["label"]]
  assert len(sources.open(f"tfds:{shapes}/shapes/1.0.0?part=train[:2]")) == 2
  assert sources.open(f"tfds:shapes?data_dir={shapes}&caption=color")[2]["captions"] == [named[2]["color"]]


@pytest.fixture
def coco(tmp_path, pictures):
  """Two pictures whose captions are a sequence of numbers and texts, as in `coco_captions`, in the part `val`."""
  core = pytest.importorskip("tensorflow_datasets")
  module = pytest.importorskip("array_record.python.array_record_module")
  folder = tmp_path / "coco/1.0.0"
  folder.mkdir(parents=True)
  writer = module.ArrayRecordWriter(str(folder / "coco-val.array_record-00000-of-00001"), "group_size:1")
  for number in range(2):
    captions = {"captions/id": [2 * number, 2 * number + 1], "captions/text": [b"a photo", f"photo {number}".encode()]}
    image = {"image": [pictures["photo_1.jpg"]], "image/id": [number], "image/filename": [f"{number}.jpg".encode()]}
    writer.write(example.encode({**image, **captions}))
  writer.close()
  of = core.features
  captions = of.Sequence({"id": np.int64, "text": of.Text()})
  image = {"image": of.Image(shape=(None, None, 3)), "image/id": np.int64, "image/filename": of.Text()}
  template = core.core.ShardedFileTemplate(
    data_dir=folder, dataset_name="coco", split="val", filetype_suffix="array_record"
  )
  core.folder_dataset.write_metadata(
    data_dir=folder,
    features=of.FeaturesDict({**image, "captions": captions}),
    split_infos=[core.core.SplitInfo(name="val", shard_lengths=[2], num_bytes=1, filename_template=template)],
    version="1.0.0",
    check_data=False,
  )
  return folder


def test_texts_of_a_sequence_of_several_fields(coco):
  source = sources.open(f"tfds:{coco}?caption=captions.text&part=val")
  assert [row["captions"] for row in source] == [["a photo", "photo 0"], ["a photo", "photo 1"]]
  with pytest.raises(ValueError, match=r"'captions' holds \['id', 'text'\]; name one, as captions.id"):
    sources.open(f"tfds:{coco}?part=val")[0]
  with pytest.raises(ValueError, match="part 'train' cannot be read; legal: val"):
    sources.open(f"tfds:{coco}?caption=captions.text")


def test_absent(shapes):
  with pytest.raises(FileNotFoundError) as info:
    sources.open(f"tfds:shpes?data_dir={shapes}")
  assert str(info.value) == f"tfds:shpes: no data set of that name in data_dir {str(shapes)!r}"


def test_unknown_part(shapes):
  with pytest.raises(ValueError, match="cannot be read") as info:
    sources.open(f"tfds:shapes?data_dir={shapes}&part=trian")
  assert str(info.value) == "tfds:shapes: part 'trian' cannot be read; legal: train"


def test_other_file_format(shapes):
  info = shapes / "shapes/1.0.0/dataset_info.json"
  info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
  with pytest.raises(ValueError, match="is stored as tfrecord; random access needs array_record"):
    sources.open(f"tfds:shapes?data_dir={shapes}")


def test_missing_package(monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
  with pytest.raises(ImportError) as info:
    sources.open("tfds:shapes")
  assert str(info.value) == "source tfds: needs the package tensorflow-datasets: pip install 'vljax[data]'"


def test_plain():
  boxes = np.zeros((2, 4), np.float32)
  value = {"a": b"x", "b": [b"y", b"z"], "c": np.int64(3), "d": np.array([b"q"], object), "e": boxes, "f": np.array(2)}
  found = tfds.plain(value)
  assert found.pop("e") is boxes
  assert found == {"a": "x", "b": ["y", "z"], "c": 3, "d": ["q"], "f": 2}
