"""A workdir of ours, converted, and opened by those for whom the formats were made: the same features."""

import jax
import numpy as np
import pytest
from PIL import Image

from vljax import convert, hub, recipes
from vljax.checkpoint import Manager, Metadata
from vljax.interop.imported import Imported, clip_preprocess
from vljax.layers.batch_norm import STATISTICS
from vljax.models import dual_encoder, fitting

pytestmark = pytest.mark.parity

TEXTS = ["a photo of a dog", "two cats on a sofa; it's 3 o'clock", "Café"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """A CLIP of random weights with CLIP's tokenizer, saved as a run of ours."""
  activation = dict(activation="quick_gelu")
  config = dict(
    image=dict(image_size=32, patch=8, width=64, depth=2, heads=1, **activation),
    text=dict(vocab=49_408, length=16, width=64, depth=2, heads=1, **activation),
    dim=24,
  )
  rng = np.random.default_rng(0)
  shapes = fitting.abstract(dual_encoder.build_from(**config))
  params = jax.tree.map(lambda s: np.asarray(rng.normal(size=s.shape) * 0.2, np.float32), shapes)
  folder = tmp_path_factory.mktemp("run") / "clip"
  convert.write(folder, Imported(config, params, clip_preprocess(32), dict(kind="clip_bpe", length=16)), "vljax")
  return folder


@pytest.fixture(scope="module")
def pictures():
  rng = np.random.default_rng(1)
  return [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for h, w in ((40, 60), (90, 50), (32, 32))]


def assert_equal(bundle, pictures, image, text) -> None:
  """Unit features within 1e-4."""
  unit = lambda x: (x / x.norm(dim=-1, keepdim=True)).detach().numpy()
  np.testing.assert_allclose(bundle.encode_image(pictures), unit(image), rtol=0, atol=1e-4)
  np.testing.assert_allclose(bundle.encode_text(TEXTS), unit(text), rtol=0, atol=1e-4)


def test_transformers(torch, transformers, workdir, pictures, tmp_path):
  """CLIPModel, CLIPTokenizer and CLIPImageProcessor, all from the folder that was written."""
  convert.convert(workdir, tmp_path / "hf", "hf")
  model = transformers.CLIPModel.from_pretrained(tmp_path / "hf").eval()
  tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "hf")
  processor = transformers.CLIPImageProcessor.from_pretrained(tmp_path / "hf")
  ids = tokenizer(TEXTS, padding="max_length", max_length=16, return_tensors="pt")["input_ids"]
  pixels = torch.cat([processor(p, return_tensors="pt")["pixel_values"] for p in pictures])
  out = model(input_ids=ids, pixel_values=pixels)
  text = out.text_embeds
  bundle = hub.load(workdir)
  np.testing.assert_allclose(bundle.encode_text(TEXTS), text.detach().numpy(), rtol=0, atol=1e-4)
  # The processor resizes tensors, which round otherwise than PIL: a level or two of 255 on noise.
  np.testing.assert_allclose(bundle.encode_image(pictures), out.image_embeds.detach().numpy(), rtol=0, atol=2e-2)


def test_open_clip(torch, open_clip, workdir, pictures, tmp_path):
  """Model, tokenizer and transform by `local-dir:`."""
  convert.convert(workdir, tmp_path / "oc", "open_clip")
  model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'oc'}")
  tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'oc'}")
  pixels = torch.stack([preprocess(p) for p in pictures])
  model.eval()
  assert_equal(hub.load(workdir), pictures, model.encode_image(pixels), model.encode_text(tokenizer(TEXTS)))


@pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")
def test_openai(torch, open_clip, workdir, pictures, tmp_path):
  """open_clip's reader of OpenAI's files, which rounds maps to half precision."""
  convert.convert(workdir, tmp_path / "clip.pt", "openai")
  model = open_clip.load_openai_model(str(tmp_path / "clip.pt"), precision="fp32", device="cpu").eval()
  tokens = torch.tensor(hub.load(workdir).tokenizer(TEXTS)).long()
  bundle = hub.load(tmp_path / "clip.pt")
  unit = lambda x: (x / x.norm(dim=-1, keepdim=True)).detach().numpy()
  np.testing.assert_allclose(bundle.encode_text(TEXTS), unit(model.encode_text(tokens)), rtol=0, atol=5e-3)


def test_the_trunk_of_a_classification_run(torch, tmp_path):
  """A ResNet-18 with its classifier and statistics in timm's class, whose keys are torchvision's: the same logits."""
  timm = pytest.importorskip("timm")
  backbone, streams = dict(variant="resnet18", image_size=32), {"train": {"source": "synthetic:pairs", "batch": 1}}
  raw = dict(recipe="classification", steps=1, streams=streams, classes=3, backbone=backbone)
  parsed = recipes.parse(raw)
  rng = np.random.default_rng(0)
  shapes = fitting.abstract_weights(recipes.build(parsed).model)
  params = jax.tree.map(lambda s: jax.numpy.asarray(rng.uniform(-0.03, 0.05, s.shape), "float32"), shapes)
  statistics = jax.tree.map(lambda x: abs(x) + 0.1, params.pop(STATISTICS))
  manager = Manager(tmp_path / "run", metadata=Metadata(config=raw, meaning=recipes.meaning(parsed)))
  manager.save(0, {"params": params, "extras": {STATISTICS: statistics}}, force=True)
  manager.close()
  report = convert.convert(tmp_path / "run", tmp_path / "x.pth", "torchvision")
  assert "mean (0.485, 0.456, 0.406)" in report.notes[0]
  model = timm.create_model("resnet18", num_classes=3).eval()
  model.load_state_dict(torch.load(tmp_path / "x.pth"))
  bundle = hub.load(tmp_path / "run")
  picture = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
  image = np.array(bundle.rules.apply(bundle.preprocess(picture)[None])).transpose(0, 3, 1, 2)
  with torch.no_grad():
    expected = model(torch.tensor(image)).numpy()
  np.testing.assert_allclose(bundle.logits(picture), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
  assert np.ptp(expected) > 1e-3
