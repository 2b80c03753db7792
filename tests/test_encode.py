import json

import numpy as np
import pytest

from vljax import encode, hub

SOURCE = "synthetic:pairs?n=21&size=20"


@pytest.fixture(scope="module")
def bundle(smoke_workdir):
  return hub.load(smoke_workdir)


@pytest.mark.parametrize("format", ["npy", "array_record"])
def test_features_come_back_in_order(bundle, tmp_path, format):
  header = encode.write(bundle, SOURCE, tmp_path / "features", shards=3, format=format, batch=4)
  found, rows = encode.read(tmp_path / "features")
  source = encode.sources.open(SOURCE)
  assert found == json.loads(json.dumps(header))
  assert (header["examples"], header["dim"], header["tokenizer"]) == (21, 16, bundle.tokenizer.sha256)
  assert rows["keys"] == [source.row(i)["key"] for i in range(21)]
  np.testing.assert_allclose(rows["image"], bundle.encode_image([source[i]["image"] for i in range(21)]), atol=1e-5)
  captions = [caption for i in range(21) for caption in source.row(i)["captions"]]
  np.testing.assert_allclose(rows["text"], bundle.encode_text(captions), atol=1e-5)
  np.testing.assert_array_equal(rows["owner"], np.repeat(np.arange(21), 2))


def test_an_interrupted_run_goes_on_with_the_missing_shard(bundle, tmp_path):
  encode.write(bundle, SOURCE, tmp_path, shards=3)
  kept = (tmp_path / "image-00000-of-00003.npy").stat().st_mtime_ns
  whole = encode.read(tmp_path)[1]["image"]
  for file in tmp_path.glob("*-00001-of-00003.*"):
    file.unlink()
  with pytest.raises(FileNotFoundError, match="rows-00001-of-00003.json"):
    encode.read(tmp_path)
  encode.write(bundle, SOURCE, tmp_path, shards=3)
  assert (tmp_path / "image-00000-of-00003.npy").stat().st_mtime_ns == kept
  np.testing.assert_array_equal(encode.read(tmp_path)[1]["image"], whole)


def test_features_of_another_source_are_not_mixed_in(bundle, tmp_path):
  encode.write(bundle, SOURCE, tmp_path)
  with pytest.raises(
    ValueError, match=r"holds other features: source is '.*n=21.*', now '.*n=22.*'; examples is 21, now 22"
  ):
    encode.write(bundle, "synthetic:pairs?n=22&size=20", tmp_path)


def test_more_shards_than_examples(bundle, tmp_path):
  with pytest.raises(ValueError, match="shards = 22; legal: 1 to 21"):
    encode.write(bundle, SOURCE, tmp_path, shards=22)
