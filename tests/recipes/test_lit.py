"""Two frozen towers of which only the projections are trained, from features made before."""

import jax
import numpy as np
import pytest

from vljax import config, encode, experiment, hub, recipes
from vljax.checkpoint.load import load_params
from vljax.data import sources
from vljax.interop import bert, weights
from vljax.interop.tower import Tower
from vljax.models import bert as models

FILE = "configs/contrastive/lit_flickr8k.py"
SOURCE = "synthetic:pairs?n=64&size=16&split=train"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
  """The smoke config, its text tower taken from a BertModel's folder."""
  folder = tmp_path_factory.mktemp("bert")
  model = models.build("test", vocab=300, length=24)
  params = jax.jit(lambda: model.init(jax.random.key(5), *model.inputs())["params"])()
  params = jax.tree.map(np.asarray, jax.tree.map(lambda x: x.unbox(), params, is_leaf=lambda x: hasattr(x, "unbox")))
  bert.save(folder, Tower("text", dict(tower="bert", variant="test", vocab=300, length=24), {"text": params}))
  raw = config.load(f"{FILE}:smoke", [])
  raw.init = [(str(folder), ".*", "")]
  return raw


@pytest.fixture(scope="module")
def features(raw, tmp_path_factory):
  folder = tmp_path_factory.mktemp("features")
  return encode.write(hub.untrained(raw), SOURCE, folder, shards=2, level="tower"), folder


@pytest.fixture(scope="module")
def workdir(raw, features, tmp_path_factory):
  folder = tmp_path_factory.mktemp("lit")
  cached = config.load(f"{FILE}:smoke", [])
  cached.init, cached.steps = raw.init, 3
  cached.streams.train.source = f"features:{features[1]}"
  cached.streams.train.transforms = [("choose_row", "text_features"), ("keep", "image_features", "text_features")]
  assert experiment.train(cached, folder)
  return folder


@pytest.mark.slow
def test_the_header_says_which_towers(raw, features):
  header, folder = features
  assert header["level"] == "tower"
  assert header["dim"] == {"image": 32, "text": 32}
  bundle = hub.untrained(raw)
  assert header["weights"] == encode.weights_hash(bundle.params, "tower") != encode.weights_hash(bundle.params)
  source = sources.open(SOURCE)
  rows = encode.read(folder)[1]
  np.testing.assert_allclose(
    rows["image"][:2], bundle.image_features([source[i]["image"] for i in range(2)]), atol=1e-5
  )
  captions = source.row(0)["captions"]
  np.testing.assert_allclose(rows["text"][: len(captions)], bundle.text_features(captions), atol=1e-5)


@pytest.mark.slow
def test_projections_are_trained_and_towers_are_not(raw, workdir):
  before, after = hub.untrained(raw).params, load_params(workdir)[0]
  taken = weights.load(raw.init[0][0])["text"]
  jax.tree.map(np.testing.assert_array_equal, after["text"], taken)
  for name in ("image_head", "text_head"):
    assert np.abs(np.asarray(before[name]["kernel"]) - np.asarray(after[name]["kernel"])).max() > 1e-5


@pytest.mark.slow
def test_the_workdir_encodes_raw_pictures_and_strings(workdir):
  bundle = hub.load(workdir)
  picture = np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8)
  assert bundle.encode_image(picture).shape == bundle.encode_text("a red circle").shape == (1, 16)
  z = bundle.image_features(picture) @ np.asarray(bundle.params["image_head"]["kernel"])
  kernel = bundle.params["image_head"]
  z = z + np.asarray(kernel["bias"]) if "bias" in kernel else z
  np.testing.assert_allclose(bundle.encode_image(picture), z / np.linalg.norm(z), atol=1e-5)


@pytest.mark.slow
def test_features_are_a_gallery_of_their_own(raw, features, workdir):
  """Retrieval among held-out features is that among the pictures that they are of."""
  bundle = hub.load(workdir)
  cached = config.load(f"{FILE}:smoke", [])
  cached.evals = dict(dev=dict(kind="retrieval", source=f"features:{features[1]}"))
  recipe = recipes.build(recipes.parse(cached), bundle.tokenizer)
  found = recipe.evals["dev"](recipe.predict, bundle.params)
  assert found == pytest.approx(bundle.gallery(SOURCE).retrieval(bundle.predict, bundle.params), abs=1e-6)
  cached.evals.dev.kind = "zeroshot"
  with pytest.raises(ValueError, match="an evaluation of features is of kind 'retrieval'; found 'zeroshot'"):
    recipes.build(recipes.parse(cached), bundle.tokenizer)


@pytest.mark.slow
def test_features_of_other_towers_are_refused_before_anything_runs(raw, features, tmp_path):
  other = config.load(f"{FILE}:smoke", [])
  other.init, other.seed = raw.init, other.seed + 1
  other.streams.train.source = f"features:{features[1]}"
  other.streams.train.transforms = [("choose_row", "text_features"), ("keep", "image_features", "text_features")]
  wanted = f"header.json is of towers with the weights {features[0]['weights'][:12]}, the run's have"
  with pytest.raises(ValueError, match=wanted):
    experiment.train(other, tmp_path)
  assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_features_of_a_tower_that_is_trained_are_refused(raw, features, tmp_path):
  wrong = config.load(f"{FILE}:smoke", [])
  wrong.init = raw.init
  wrong.streams.train.source = f"features:{features[1]}"
  wrong.streams.train.transforms = [("choose_row", "text_features"), ("keep", "image_features", "text_features")]
  wrong.trains = r"image/.*|text_head/.*"
  with pytest.raises(ValueError, match="gives image_features, made before, but the image tower is trained"):
    experiment.train(wrong, tmp_path)
