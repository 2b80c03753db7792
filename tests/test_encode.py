import contextlib
import dataclasses
import json

import numpy as np
import pytest
from etils import epath
from PIL import Image

from vljax import encode, hub, language
from vljax.models import projected

SOURCE = "synthetic:pairs?n=21&size=20"


@pytest.fixture(scope="module")
def bundle(smoke_workdir):
  return hub.load(smoke_workdir)


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_features_of_another_meaning_are_not_mixed_in(bundle, tmp_path, caplog):
  """The weights are the same; older headers, which do not say how pictures were prepared, go on with a warning."""
  encode.write(bundle, SOURCE, tmp_path, shards=2)
  (tmp_path / "rows-00001-of-00002.json").unlink()
  rules = dataclasses.replace(bundle.rules, normalize=((0.9,) * 3, (0.1,) * 3), resize="squash")
  other = dataclasses.replace(bundle, rules=rules)
  with pytest.raises(
    ValueError, match=r"other features: meaning.mean is \[.*\], now \[0.9, .*meaning.resize is '.*', now 'squash'; enc"
  ):
    encode.write(other, SOURCE, tmp_path, shards=2)
  quick = bundle.model.clone(image=bundle.model.image.clone(activation="quick_gelu"))
  with pytest.raises(ValueError, match=r"other features: meaning.activation.image is 'gelu', now 'quick_gelu';"):
    encode.write(dataclasses.replace(bundle, model=quick), SOURCE, tmp_path, shards=2)
  header = json.loads((tmp_path / "header.json").read_text())
  del header["meaning"]
  (tmp_path / "header.json").write_text(json.dumps(header))
  encode.write(bundle, SOURCE, tmp_path, shards=2)
  assert "header.json does not say the preprocessing and activation of its features" in caplog.text
  assert len(encode.read(tmp_path)[1]["keys"]) == 21


@pytest.mark.parametrize(("moment", "seed"), [("write_bytes", 1), ("replace", 2)])
def test_processes_that_begin_a_folder_together(tmp_path, monkeypatch, moment, seed):
  """While this process writes its header another writes the same, or one of its own, which this one must see."""
  to, header, other = epath.Path(tmp_path), {"meaning": {}, "seed": 1}, {"meaning": {}, "seed": seed}
  plain = getattr(type(to), moment)

  def meanwhile(self, *arguments):
    result = plain(self, *arguments)
    monkeypatch.undo()
    encode._atomic(to / "header.json", json.dumps(other).encode())
    return result

  monkeypatch.setattr(type(to), moment, meanwhile)
  same = contextlib.nullcontext()
  with same if seed == 1 else pytest.raises(ValueError, match="other features: seed is 2, now 1"):
    encode._check_header(to, header)
  assert [file.name for file in to.iterdir()] == ["header.json"]


def test_towers_of_another_meaning_are_refused(bundle, tmp_path):
  encode.write(bundle, SOURCE, tmp_path, level="tower")
  encode.check(tmp_path, bundle.params, encode.meaning(bundle.model, bundle.rules))
  rules = dataclasses.replace(bundle.rules, interpolation="bilinear")
  with pytest.raises(ValueError, match="of towers that mean something else: meaning.interpolation is 'bicubic', now"):
    encode.check(tmp_path, bundle.params, encode.meaning(bundle.model, rules))


def test_models_without_what_is_asked_are_refused(bundle, tmp_path):
  seeing = projected.Projected(bundle.model.image, projected.Projection())
  with pytest.raises(ValueError, match="level = 'tower' of a Projected; legal: a DualEncoder, or level = 'joint'"):
    encode.write(dataclasses.replace(bundle, model=seeing), SOURCE, tmp_path, level="tower")
  writing = language.LanguageBundle(None, {}, {}, None)
  with pytest.raises(ValueError, match="a LanguageBundle has no features to write; legal: dual encoders, networks"):
    encode.write(writing, SOURCE, tmp_path)
  with pytest.raises(ValueError, match="^batch = -1; legal: 1 or more"):
    encode.write(bundle, SOURCE, tmp_path, batch=-1)


def test_more_shards_than_examples(bundle, tmp_path):
  with pytest.raises(ValueError, match="shards = 22; legal: 1 to 21"):
    encode.write(bundle, SOURCE, tmp_path, shards=22)


@pytest.fixture
def pictures(tmp_path):
  """Twelve pictures with two captions each; 03.jpg is cut off, 07.jpg has no caption."""
  rng = np.random.default_rng(0)
  for i in range(12):
    Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(tmp_path / f"{i:02d}.jpg")
    (tmp_path / f"{i:02d}.txt").write_text(f"picture {i}\nnumber {i}")
  (tmp_path / "03.jpg").write_bytes((tmp_path / "03.jpg").read_bytes()[:300])
  (tmp_path / "07.txt").unlink()
  return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("format", "shards"), [("npy", 1), ("npy", 12), ("array_record", 4), ("array_record", 12)])
def test_broken_examples_are_named_and_left_out(bundle, pictures, tmp_path, caplog, format, shards):
  to, options = tmp_path / "features", dict(format=format, shards=shards, batch=4, max_broken=0.02)
  header = encode.write(bundle, f"folder:{pictures}", to, **options)
  assert "broken example 03.jpg: ValueError: " in caplog.text
  assert "'07.jpg' has no caption" in caplog.text
  assert (header["examples"], header["broken"]) == (12, 2)
  found, rows = encode.read(to)
  assert found == json.loads(json.dumps(header))
  good = [i for i in range(12) if i not in (3, 7)]
  assert rows["keys"] == [f"{i:02d}.jpg" for i in good]
  np.testing.assert_array_equal(rows["owner"], np.repeat(np.arange(10), 2))
  np.testing.assert_allclose(rows["image"], bundle.encode_image([pictures / key for key in rows["keys"]]), atol=1e-5)
  texts = [text for i in good for text in (f"picture {i}", f"number {i}")]
  np.testing.assert_allclose(rows["text"], bundle.encode_text(texts), atol=1e-5)
  assert encode.write(bundle, f"folder:{pictures}", to, **options) == header, "again, with all shards there"
  source = encode.sources.open(f"features:{to}")
  assert len(source) == 10
  np.testing.assert_array_equal(source[9]["text_features"], rows["text"][18:])


@pytest.mark.slow
def test_too_many_broken_examples_stop_the_job_and_it_goes_on(bundle, pictures, tmp_path):
  source, to = f"folder:{pictures}", tmp_path / "features"
  message = r"2 of \d examples are broken .*max_broken = 0.01; the last one is .*'07.jpg' has no caption"
  for _ in range(2):
    with pytest.raises(ValueError, match=message):
      encode.write(bundle, source, to, shards=3)
    assert (to / "rows-00000-of-00003.json").exists()
    assert not (to / "rows-00001-of-00003.json").exists()
  assert encode.write(bundle, source, to, shards=3, max_broken=0.02)["broken"] == 2


def test_nothing_but_broken_examples(bundle, tmp_path):
  (tmp_path / "a.jpg").write_bytes(b"no picture")
  with pytest.raises(ValueError, match=r"no example of folder:\S+ can be read; the last one is a.jpg: ValueError"):
    encode.write(bundle, f"folder:{tmp_path}", tmp_path / "features")
  with pytest.raises(ValueError, match="max_broken = 2; legal: a share, 0 to 1"):
    encode.write(bundle, SOURCE, tmp_path / "features", max_broken=2)


def test_home_is_expanded(bundle, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  encode.write(bundle, SOURCE, "~/features")
  assert (tmp_path / "features/header.json").exists()
