"""Published names: found, fetched with their hashes checked, kept, and what the errors say without a network."""

import hashlib
import io
import json
import urllib.request

import jax
import numpy as np
import pytest

from vljax import interop
from vljax.interop import hugging_face, open_clip, openai, published, siglip
from vljax.interop.imported import Imported, clip_preprocess
from vljax.models import dual_encoder, fitting


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("VLJAX_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path, monkeypatch):
  """A folder laid out as the hub's addresses are, served by file:// addresses."""
  monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
  monkeypatch.setenv("HF_ENDPOINT", f"file://{tmp_path}/hub/")
  return tmp_path / "hub"


def publish(hub, repository: str, write) -> None:
  """Lay a checkpoint that `write` writes into the hub, with a listing as the hub gives it."""
  folder = hub / repository / "resolve/main"
  folder.mkdir(parents=True)
  write(folder)
  items = [{"type": "directory", "path": "x", "oid": "0"}]
  for file in folder.iterdir():
    data = file.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    large = {"lfs": {"oid": hashlib.sha256(data).hexdigest()}} if file.suffix == ".safetensors" else {}
    items.append({"type": "file", "path": file.name, "oid": blob, **large})
  listing = hub / "api/models" / repository / "tree/main"
  listing.parent.mkdir(parents=True)
  listing.write_text(json.dumps(items))


def test_names(cache):
  names = interop.list_published()
  assert "openai:ViT-B-32" in names
  assert "open_clip:ViT-H-14/laion2b_s32b_b79k" in names
  for name in names:
    entry = published.find(name)
    assert published.is_published(name)
    assert entry.place.is_relative_to(cache)
  assert published.find("openai:vit-b/32") == published.Published(
    "openai:vit-b/32", "openai", published.OPENAI["ViT-B-32"]
  )
  assert published.find("openai:rn50x16").url == published.OPENAI["RN50x16"]
  assert {f"openai:{n}" for n in dual_encoder.VARIANTS if n.startswith("RN")} <= set(names)
  assert published.find("open_clip:ViT-SO400M-14-SigLIP2/webli").repository == "timm/ViT-SO400M-14-SigLIP2"
  assert published.find("openai:ViT-L-14@336px").url == published.OPENAI["ViT-L-14-336"]
  assert published.find("hf:a/b@v2").revision == "v2"
  assert len({published.find(n).place for n in names}) == len(names)


@pytest.mark.parametrize("source", ["runs/x", "C:/x", "gs://bucket/x", "hf", "hf://a/b", 3])
def test_paths_are_no_names(source):
  assert not published.is_published(source)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("openai:ViT-B-23", "unknown published name openai: 'ViT-B-23'; did you mean 'ViT-B-32'?"),
    ("open_clip:ViT-B-32/laion", "unknown published name open_clip: 'ViT-B-32/laion'"),
    ("hf:clip", "unknown published name 'hf:clip'; legal: hf:ORG/NAME, openai:RN50"),
    ("hf:../x", "unknown published name 'hf:../x'"),
  ],
)
def test_unknown_names(name, message):
  with pytest.raises(ValueError, match="unknown published name") as raised:
    interop.load(name)
  assert str(raised.value).startswith(message)


def test_a_file_is_fetched_once_and_checked(make, tmp_path, monkeypatch, cache):
  made = make()
  openai.save(tmp_path / "x.pt", made.imported)
  digest = hashlib.sha256((tmp_path / "x.pt").read_bytes()).hexdigest()
  (tmp_path / digest).mkdir()
  (tmp_path / "x.pt").rename(tmp_path / digest / "ViT-test.pt")
  monkeypatch.setitem(published.OPENAI, "ViT-test", f"file://{tmp_path}/{digest}/ViT-test.pt")
  made.assert_equal(interop.load("openai:ViT-test"))
  (tmp_path / digest / "ViT-test.pt").unlink()
  made.assert_equal(interop.load("openai:vit-test"))
  assert (cache / "openai/ViT-test.pt.sha256").read_text().strip() == digest


def test_a_file_with_another_hash_is_not_kept(tmp_path, monkeypatch, cache):
  (tmp_path / ("0" * 64)).mkdir()
  (tmp_path / ("0" * 64) / "x.pt").write_bytes(b"something else")
  monkeypatch.setitem(published.OPENAI, "x", f"file://{tmp_path}/{'0' * 64}/x.pt")
  with pytest.raises(
    ValueError, match=f"x.pt was downloaded with hash [0-9a-f]{{64}}, the published one is {'0' * 64}"
  ):
    interop.load("openai:x")
  assert not any((cache / "openai").iterdir())


class Reply(io.BytesIO):
  """A chunked reply, which has no Content-Length; `meanwhile` happens after its first bytes."""

  headers = {}

  def __init__(self, data, meanwhile=lambda: None):
    super().__init__(data)
    self.meanwhile = meanwhile

  def read(self, size=-1):
    block = super().read(min(size, 8))
    self.meanwhile, meanwhile = lambda: None, self.meanwhile
    meanwhile()
    return block


def fetch_of(data, monkeypatch, meanwhile=lambda: None, expected=None):
  """Download these bytes as openai:x; what happens meanwhile happens to the first who does."""
  replies = [Reply(data), Reply(data, meanwhile)]
  monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: replies.pop())
  entry = published.Published("openai:x", "openai", url="https://nowhere/hash/x.pt")
  expected = expected or hashlib.sha256(data).hexdigest()
  download = lambda: published._download(entry, str(entry.url), entry.place, expected)
  return entry.place, download


def test_processes_that_share_a_cache_do_not_write_into_one_file(monkeypatch):
  data = bytes(range(1, 200))
  place, download = fetch_of(data, monkeypatch, lambda: (download(), place.write_bytes(data + b"first")))
  download()
  assert place.read_bytes() == data + b"first"
  assert sorted(file.name for file in place.parent.iterdir()) == ["x.pt", "x.pt.sha256"]


def test_a_download_that_is_stopped_leaves_nothing(monkeypatch):
  def stop():
    raise KeyboardInterrupt

  place, download = fetch_of(b"0123456789", monkeypatch, stop)
  with pytest.raises(KeyboardInterrupt):
    download()
  assert not any(place.parent.iterdir())
  download()
  assert place.read_bytes() == b"0123456789"


def test_small_files_are_checked_by_the_length_that_came(monkeypatch):
  place, download = fetch_of(b'{"a": 1}', monkeypatch, expected=hashlib.sha1(b'blob 8\0{"a": 1}').hexdigest())
  download()
  assert place.read_text() == '{"a": 1}'


def test_a_file_that_was_put_into_the_cache_is_checked(cache):
  (cache / "openai").mkdir(parents=True)
  (cache / "openai/ViT-B-32.pt").write_bytes(b"cut off")
  with pytest.raises(ValueError, match=r"ViT-B-32.pt has sha256 [0-9a-f]{64}, the published file has 40d36571"):
    interop.load("openai:ViT-B-32")


def test_without_network_the_error_says_what_to_fetch_and_where_to_put_it(monkeypatch, cache):
  url = f"file:///nowhere/{'0' * 64}/x.pt"
  monkeypatch.setitem(published.OPENAI, "x", url)
  with pytest.raises(FileNotFoundError, match="is not cached") as raised:
    interop.load("openai:x")
  assert str(raised.value).startswith(f"openai:x is not cached, and {url} cannot be read (")
  assert str(raised.value).endswith(f"; fetch it and put it at {cache}/openai/x.pt")


def test_offline_hub(monkeypatch, cache):
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  with pytest.raises(FileNotFoundError, match="is not cached") as raised:
    interop.load("hf:openai/clip-vit-base-patch32")
  base = "https://huggingface.co/openai/clip-vit-base-patch32/resolve/main"
  assert str(raised.value).endswith(
    "cannot be read (HF_HUB_OFFLINE is set); fetch "
    f"{base}/config.json and {base}/model.safetensors and put them into {cache}/hf/openai--clip-vit-base-patch32/main/"
  )


def test_a_repository_of_the_hub(make, hub, monkeypatch):
  made = make(text=dict(pool="eos", eos_id=39))
  publish(hub, "me/clip", lambda folder: hugging_face.save(folder, made.imported))
  made.assert_equal(interop.load("hf:me/clip"))
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  made.assert_equal(interop.load("hf:me/clip"))


@pytest.mark.parametrize("missing", ["preprocessor_config.json", "config.json", "model.safetensors"])
def test_a_download_that_broke_off_goes_on(make, hub, cache, missing):
  publish(hub, "me/clip", lambda folder: hugging_face.save(folder, make().imported))
  source, place = hub / "me/clip/resolve/main", cache / "hf/me--clip/main"
  (source / missing).rename(hub / missing)
  with pytest.raises(FileNotFoundError, match=f"hf:me/clip is not cached, and file.*/{missing} cannot be read"):
    published.fetch(published.find("hf:me/clip"))
  assert not (place / "model.safetensors").exists()
  (hub / missing).rename(source / missing)
  published.fetch(published.find("hf:me/clip"))
  assert {file.name for file in source.iterdir()} <= {file.name for file in place.iterdir()}


def test_shards_that_broke_off_go_on(hub, cache):
  names = ["model-1.safetensors", "model-2.safetensors"]
  index = {"weight_map": {"a": names[0], "b": names[1], "c": names[1]}}

  def write(folder):
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in names:
      (folder / name).write_text(name)

  publish(hub, "me/large", write)
  source, place = hub / "me/large/resolve/main", cache / "hf/me--large/main"
  (source / names[1]).rename(hub / names[1])
  for _ in range(2):
    with pytest.raises(FileNotFoundError, match="model-2.safetensors cannot be read"):
      published.fetch(published.find("hf:me/large"))
  assert (place / names[0]).exists()
  (hub / names[1]).rename(source / names[1])
  published.fetch(published.find("hf:me/large"))
  assert (place / names[1]).read_text() == names[1]


def test_a_folder_filled_by_hand(make, monkeypatch, cache):
  """The weights and what tells their shape are enough without a network."""
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  made = make(text=dict(pool="eos", eos_id=39))
  place = cache / "hf/me--clip/main"
  hugging_face.save(place, made.imported)
  for file in place.iterdir():
    if file.name not in ("config.json", "model.safetensors"):
      file.unlink()
  assert published.fetch(published.find("hf:me/clip")) == place
  jax.tree.map(np.testing.assert_array_equal, interop.load("hf:me/clip").params, made.imported.params)


def test_open_clips_merges_come_along(make, hub, monkeypatch, cache):
  def write(folder):
    open_clip.save(folder, make(image=dict(activation="gelu"), text=dict(activation="gelu")).imported)
    (folder / "merges.txt").write_text("#version: 0.2\n")

  publish(hub, "me/oc", write)
  monkeypatch.setitem(published.OPEN_CLIP, "ViT-test/mine", "me/oc")
  assert (published.fetch(published.find("open_clip:ViT-test/mine")) / "merges.txt").exists()


def test_a_repository_of_a_siglip_model(hub):
  """Its config, not its name, says what it holds."""
  tower = dict(variant="test", activation="gelu_tanh", epsilon=1e-6)
  config = dict(
    image=dict(pool="map", norm_pre=False, patch_bias=True, **tower),
    text=dict(pool="last", causal=False, **tower),
    dim=32,
    **siglip.FIELDS,
  )
  params = jax.tree.map(lambda x: np.ones(x.shape, np.float32), fitting.abstract(dual_encoder.build_from(**config)))
  made = Imported(config, params, clip_preprocess(16) | dict(resize_mode="squash"), {})
  publish(hub, "me/siglip", lambda folder: siglip.save(folder, made))
  found = interop.load("hf:me/siglip")
  assert found.model().image.pool == "map"
  jax.tree.map(np.testing.assert_array_equal, found.params, params)


def test_a_repository_of_open_clip(make, hub, monkeypatch):
  made = make(image=dict(activation="gelu"), text=dict(activation="gelu"))
  publish(hub, "me/oc", lambda folder: open_clip.save(folder, made.imported))
  monkeypatch.setitem(published.OPEN_CLIP, "ViT-test/mine", "me/oc")
  made.assert_equal(interop.load("open_clip:vit-test/mine"))


def test_a_repository_that_changed_on_the_way(make, hub):
  publish(hub, "me/clip", lambda folder: hugging_face.save(folder, make().imported))
  file = hub / "me/clip/resolve/main/model.safetensors"
  file.write_bytes(file.read_bytes() + b"x")
  with pytest.raises(ValueError, match="model.safetensors was downloaded with hash"):
    interop.load("hf:me/clip")


def test_a_repository_without_weights(make, hub):
  def write(folder):
    hugging_face.save(folder, make().imported)
    (folder / "model.safetensors").unlink()

  publish(hub, "me/clip", write)
  with pytest.raises(
    ValueError, match=r"hf:me/clip: file.*/me/clip holds none of model.safetensors, model.safetensors.in"
  ):
    interop.load("hf:me/clip")
