import io
import re
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import vljax
from vljax import config, experiment, hub, interop, parallel, tree
from vljax.models import dual_encoder, fitting


@pytest.fixture(scope="module")
def bundle(smoke_workdir):
  return hub.load(smoke_workdir)


@pytest.fixture(scope="module")
def picture():
  return np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
  """A CLIPModel's folder."""
  model = dual_encoder.build("test")
  rng = np.random.default_rng(0)
  shapes = tree.flatten(fitting.abstract(model))
  params = tree.unflatten({name: rng.normal(size=s.shape).astype(np.float32) * 0.1 for name, s in shapes.items()})
  config = {
    "image": {f: getattr(model.image, f) for f in ("image_size", "patch", "width", "depth", "heads", "activation")},
    "text": {f: getattr(model.text, f) for f in ("vocab", "length", "width", "depth", "heads", "activation")},
    "dim": model.dim,
  }
  folder = tmp_path_factory.mktemp("published") / "hf"
  interop.save(folder, interop.Imported(config, params, interop.imported.clip_preprocess(16), {}, []), "hf")
  return folder


def test_pictures_of_every_kind_give_the_same_vector(bundle, picture, tmp_path):
  file = tmp_path / "x.png"
  Image.fromarray(picture).save(file)
  encoded = io.BytesIO()
  Image.fromarray(picture).save(encoded, format="PNG")
  z = bundle.encode_image([picture, Image.fromarray(picture), encoded.getvalue(), file, str(file)])
  assert z.shape == (5, bundle.model.dim)
  np.testing.assert_allclose(z, np.broadcast_to(z[0], z.shape), atol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1, atol=1e-5)
  np.testing.assert_allclose(bundle.encode_image(picture), z[:1], atol=1e-5)


def test_texts_are_unit_vectors_and_one_alone_is_a_list_of_one(bundle):
  z = bundle.encode_text(["a red circle", "a blue square"])
  np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1, atol=1e-5)
  np.testing.assert_allclose(bundle.encode_text("a red circle"), z[:1], atol=1e-5)


@pytest.mark.slow
def test_zero_shot_is_the_softmax_of_scaled_cosines(bundle, picture):
  names = ["circle", "square", "ring"]
  p = bundle.zero_shot([picture, picture], names, templates=("a {}",))
  logits = bundle.scale * bundle.encode_image([picture]) @ bundle.encode_text([f"a {n}" for n in names]).T
  expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
  np.testing.assert_allclose(p, np.repeat(expected, 2, 0), atol=1e-4)


@pytest.mark.slow
def test_an_exported_encoder_takes_any_batch(bundle, picture, tmp_path):
  bundle.export("image", tmp_path / "image.bin")
  bundle.export("text", tmp_path / "text.bin")
  pictures = np.stack([bundle.preprocess(picture)] * 3)
  np.testing.assert_allclose(
    hub.call_exported(tmp_path / "image.bin", pictures), bundle.encode_image(pictures), atol=1e-5
  )
  tokens = bundle.tokenizer(["a red circle", "ring"])
  np.testing.assert_allclose(
    hub.call_exported(tmp_path / "text.bin", tokens), bundle.encode_text(["a red circle", "ring"]), atol=1e-5
  )
  with pytest.raises(ValueError, match="unknown tower of this model 'images'; did you mean 'image'"):
    bundle.export("images", tmp_path / "x.bin")


def test_a_workdir_evaluates_itself(bundle):
  report = bundle.evaluate()
  assert {"retrieval/image_to_text/R@10", "retrieval/text_to_image/R@10", "groups/top1"} <= set(report)


@pytest.mark.parametrize(
  ("content", "message"), [(None, "there is no picture"), (b"not a picture", "are not an image")]
)
def test_a_bad_picture_is_named(bundle, tmp_path, content, message):
  file = tmp_path / "bad.jpg"
  if content:
    file.write_bytes(content)
  with pytest.raises((ValueError, FileNotFoundError), match=rf"bad.jpg.*|{message}") as error:
    bundle.encode_image(file)
  assert message in str(error.value)
  assert "bad.jpg" in str(error.value)


def test_a_published_folder_opens_and_says_what_it_took_for_granted(published, caplog):
  found = hub.load(published)
  assert found.tokenizer is None
  note = next(note for note in found.notes if "tokenizer" in note)
  assert set(found.notes) <= set(caplog.messages)
  with pytest.raises(ValueError, match="brings no tokenizer"):
    found.encode_text("x")
  with pytest.raises(ValueError, match=re.escape(f"without a tokenizer, which texts need ({note}")):
    found.gallery("synthetic:pairs?n=3&size=16").retrieval(found.predict, found.params)
  with pytest.raises(ValueError, match="brings no evaluations of its own"):
    found.evaluate()


def test_the_package_gives_the_hub():
  assert vljax.hub is hub
  assert "openai:ViT-B-32" in hub.list_models()


def test_what_is_no_model_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="missing does not exist"):
    hub.load(tmp_path / "missing")
  with pytest.raises(ValueError, match="is no known checkpoint"):
    hub.load(tmp_path)


def test_a_relative_workdir_opens(smoke_workdir, monkeypatch):
  monkeypatch.chdir(smoke_workdir.parent)
  assert hub.load(smoke_workdir.name).model.dim == 16


@pytest.fixture(scope="module", params=[dict(fsdp=4), dict(fsdp=2, tensor=2)], ids=str)
def spread(request, smoke_workdir):
  """The bundle on a mesh."""
  return hub.load(smoke_workdir, mesh=parallel.make(parallel.Mesh(**request.param)))


def test_a_mesh_holds_the_parameters_as_training_does(spread, make_trainer):
  mesh = spread.use.args[0]
  trainer = make_trainer(*(f"--config.mesh.{axis}={n}" for axis, n in mesh.shape.items()))
  trained = {name: s.spec for name, s in tree.flatten(trainer.shardings.params).items()}
  assert {name: leaf.sharding.spec for name, leaf in tree.flatten(spread.params).items()} == trained
  kernel = spread.params["image"]["blocks"]["mlp"]["up"]["kernel"]
  assert len(kernel.sharding.device_set) == 8
  assert kernel.addressable_shards[0].data.size * mesh.shape["fsdp"] * mesh.shape["tensor"] == kernel.size


@pytest.mark.slow
def test_a_mesh_gives_the_features_of_one_device(bundle, spread, picture):
  pictures = [np.roll(picture, i, 0) for i in range(11)]
  np.testing.assert_allclose(spread.encode_image(pictures, batch=3), bundle.encode_image(pictures), atol=1e-5)
  np.testing.assert_allclose(spread.encode_text("a red circle"), bundle.encode_text("a red circle"), atol=1e-5)
  prompts = [picture], ["circle", "ring"]
  np.testing.assert_allclose(spread.zero_shot(*prompts), bundle.zero_shot(*prompts), atol=1e-4)


@pytest.mark.slow
def test_evaluations_run_on_the_mesh(bundle, spread):
  source = "synthetic:pairs?split=val&n=21"
  found = spread.gallery(source).retrieval(spread.predict, spread.params)
  assert found == pytest.approx(bundle.gallery(source).retrieval(bundle.predict, bundle.params), abs=1e-5)
  assert spread.evaluate() == pytest.approx(bundle.evaluate(), abs=1e-5)


def test_a_batch_lies_on_all_devices(spread, picture):
  z = spread.predict["encode_image"](spread.params, np.stack([spread.preprocess(picture)] * 8))
  ways = spread.use.args[0].shape["data"] * spread.use.args[0].shape["fsdp"]
  assert z.addressable_shards[0].data.shape[0] == 8 // ways


def test_a_model_on_a_mesh_is_exported_for_one_device(spread, picture, tmp_path):
  spread.export("image", tmp_path / "image.bin")
  pictures = np.stack([spread.preprocess(picture)] * 3)
  np.testing.assert_allclose(
    hub.call_exported(tmp_path / "image.bin", pictures), spread.encode_image(pictures), atol=1e-5
  )


@pytest.mark.slow
def test_a_published_model_on_a_mesh(published, picture):
  whole, spread = hub.load(published), hub.load(published, mesh=parallel.make(parallel.Mesh(fsdp=8)))
  assert not spread.params["text"]["blocks"]["mlp"]["up"]["kernel"].sharding.is_fully_replicated
  np.testing.assert_allclose(spread.encode_image(picture), whole.encode_image(picture), atol=1e-5)


def test_without_a_mesh_one_device_holds_all(bundle):
  assert {leaf.sharding.device_set.pop() for leaf in jax.tree.leaves(bundle.params)} == {jax.devices()[0]}


def test_home_is_expanded(smoke_workdir, bundle, picture, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(smoke_workdir.parent))
  assert hub.load(f"~/{smoke_workdir.name}").model.dim == 16
  monkeypatch.setenv("HOME", str(tmp_path))
  Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "x.png")
  assert bundle.preprocess("~/x.png").shape == (16, 16, 3)


@pytest.fixture(scope="module", params=["simclr_cifar", "supervised_r50"])
def seeing(request, root, tmp_path_factory):
  """A finished run that knows no texts."""
  workdir = tmp_path_factory.mktemp("seeing") / "run"
  assert experiment.train(config.load(f"{root}/configs/contrastive/{request.param}.py:smoke", ()), workdir)
  return workdir


@pytest.mark.slow
def test_runs_without_texts_open(seeing, picture):
  found = hub.load(seeing)
  z = found.encode_image([picture, picture[:20]])
  size = found.size
  raw = np.stack([found.preprocess(x) for x in (picture, picture[:20])])
  np.testing.assert_allclose(z, found.predict["encode_image"](found.params, raw), atol=1e-4)
  assert z.shape == (2, found.dim)
  assert raw.shape == (2, size, size, 3)
  if "logits" in found.predict:
    assert found.logits(picture).shape[0] == 1
  source = f"synthetic:pairs?n=24&size={size}"
  assert 0 <= found.gallery(source).knn(found.gallery(source), found.predict, found.params)["top1"] <= 1
  with pytest.raises(ValueError, match="this checkpoint brings no tokenizer .the recipe .* knows no texts.; use"):
    found.encode_text("a red circle")
  with pytest.raises(ValueError, match="unknown function of this model 'image_features'"):
    found.image_features(picture)


@pytest.mark.slow
def test_the_encoder_of_a_run_without_texts_is_exported(seeing, picture, tmp_path):
  found = hub.load(seeing)
  found.export("image", tmp_path / "image.bin")
  pictures = np.stack([found.preprocess(picture)] * 3)
  exported = hub.call_exported(tmp_path / "image.bin", pictures)
  np.testing.assert_allclose(exported, found.encode_image(pictures), atol=1e-4)
  with pytest.raises(ValueError, match="unknown tower of this model 'text'; legal: image"):
    found.export("text", tmp_path / "text.bin")


@pytest.mark.slow
def test_what_a_finished_run_says_comes_next_runs(root, monkeypatch, tmp_path, seeing, capsys):
  """As it is printed, with a picture and a folder in their places."""
  monkeypatch.chdir(root)
  Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
  lines = [shlex.split(line[27:]) for line in experiment.next_steps(seeing, "simclr").splitlines()[2:]]
  (_, _, code), (_, file, *flags) = lines
  exec(code.replace("PICTURE.jpg", f"{tmp_path}/a.png"), {})
  assert capsys.readouterr().out.startswith("(1, ")
  flags = [flag.replace("PICTURES", str(tmp_path)).replace("FEATURES", f"{tmp_path}/features") for flag in flags]
  subprocess.run([sys.executable, file, *flags], check=True, capture_output=True)
  assert any((tmp_path / "features").iterdir())


@pytest.mark.slow
def test_an_nfnets_kernels_are_standardized_once(tmp_path, root, picture, monkeypatch):
  raw = config.load(f"{root}/configs/contrastive/flamingo_vision.py:smoke", ())
  bundle = hub.untrained(raw)
  expected = bundle.predict["encode_image"](bundle.params, bundle.preprocess(picture)[None])
  functions, params = bundle._served
  count = lambda f, p: str(jax.make_jaxpr(f["encode_image"])(p, bundle.preprocess(picture)[None])).count(" rsqrt ")
  assert count(functions, params) < count(bundle.predict, bundle.params) / 5
  np.testing.assert_allclose(bundle.encode_image(picture), expected, atol=1e-5)
  bundle.export("image", tmp_path / "image.jax")
  np.testing.assert_allclose(
    hub.call_exported(tmp_path / "image.jax", bundle.preprocess(picture)[None]), expected, atol=1e-5
  )
