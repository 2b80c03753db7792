"""OpenAI's own structure and containers: features, TorchScript and half precision, files both ways."""

import numpy as np
import pytest

from vljax import interop
from vljax.interop import openai, torch_reader

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def model(torch, open_clip):
  """A tiny model that open_clip made as it makes OpenAI's, in float32, whose maps float16 can hold."""
  config = dict(
    embed_dim=24,
    quick_gelu=True,
    vision_cfg=dict(image_size=32, layers=2, width=128, patch_size=8),
    text_cfg=dict(context_length=12, vocab_size=99, width=64, heads=1, layers=3),
  )
  torch.manual_seed(0)
  model = open_clip.CLIP(**config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim == 1:
        parameter += 0.1 * torch.randn_like(parameter)
  return rebuilt(open_clip, model.state_dict())


def features(torch, model, compared):
  with torch.no_grad():
    return model.encode_image(compared.pixels()), model.encode_text(torch.tensor(compared.tokens).long())


def rebuilt(open_clip, state):
  """The model that open_clip builds from an OpenAI state dict, dimensions from its shapes, maps rounded to half."""
  return open_clip.model.build_model_from_openai_state_dict(dict(state), cast_dtype=None).float().eval()


def test_state_dict(torch, open_clip, model, compare, tmp_path):
  torch.save(model.state_dict(), tmp_path / "clip.pt")
  imported = interop.load(tmp_path / "clip.pt")
  assert "quick_gelu" in imported.notes[0]
  compared = compare(imported)
  compared.assert_features(*features(torch, model, compared), atol=1e-5)
  compared.assert_features(*features(torch, rebuilt(open_clip, model.state_dict()), compared), atol=1e-5)


def test_round_trip_is_bit_equal(torch, open_clip, model, tmp_path):
  torch.save(model.state_dict(), tmp_path / "a.pt")
  interop.save(tmp_path / "b.pt", interop.load(tmp_path / "a.pt"), "openai")
  again, wanted = torch.load(tmp_path / "b.pt", weights_only=True), model.state_dict()
  assert again.keys() == wanted.keys()
  assert all(torch.equal(again[k], wanted[k]) and again[k].dtype == wanted[k].dtype for k in wanted)
  assert rebuilt(open_clip, again).state_dict().keys() == wanted.keys()


def test_half_precision_round_trip(torch, open_clip, model, compare, tmp_path):
  """OpenAI's files: maps in float16, with three scalars besides."""
  half = rebuilt(open_clip, model.state_dict())
  open_clip.model.convert_weights_to_fp16(half)
  scalars = dict(input_resolution=torch.tensor(32), context_length=torch.tensor(12), vocab_size=torch.tensor(99))
  torch.save({**half.state_dict(), **scalars}, tmp_path / "a.pt")
  imported = interop.load(tmp_path / "a.pt")
  openai.save(tmp_path / "b.pt", imported, half=True)
  again, wanted = torch.load(tmp_path / "b.pt", weights_only=True), half.state_dict()
  assert again.keys() == wanted.keys()
  assert {k for k, v in again.items() if v.dtype == torch.float16} == {
    k for k, v in wanted.items() if v.dtype == torch.float16
  }
  assert all(torch.equal(again[k], wanted[k]) for k in wanted)
  compared = compare(imported)
  compared.assert_features(*features(torch, half.float(), compared), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_archive(torch, open_clip, model, compare, tmp_path):
  """The container of OpenAI's files: modules, scalars and a mask, read without torch."""
  torch_nn = torch.nn

  class Whole(torch_nn.Module):
    def __init__(self, clip):
      super().__init__()
      for name, part in clip.named_children():
        setattr(self, name, part)
      for name in ("positional_embedding", "text_projection", "logit_scale"):
        setattr(self, name, getattr(clip, name))
      for name, value in (("input_resolution", 32), ("context_length", 12), ("vocab_size", 99)):
        self.register_buffer(name, torch.tensor(value))

    def forward(self, image):
      return self.visual(image)

  whole = Whole(rebuilt(open_clip, model.state_dict())).eval()
  script = torch.jit.trace(whole, torch.zeros(1, 3, 32, 32), check_trace=False)
  script.save(str(tmp_path / "ViT-tiny.pt"))
  found = torch_reader.state_dict(tmp_path / "ViT-tiny.pt")
  wanted = script.state_dict()
  assert {k for k in found if "attn_mask" not in k} == set(wanted)
  assert all(np.array_equal(found[k], wanted[k].numpy()) for k in wanted)
  compared = compare(interop.load(tmp_path / "ViT-tiny.pt"))
  compared.assert_features(*features(torch, model, compared), atol=1e-5)


def test_torch_is_not_needed(torch, model, tmp_path, root):
  """A fresh interpreter without torch opens the file and encodes."""
  import subprocess
  import sys

  torch.save(model.state_dict(), tmp_path / "clip.pt")
  program = f"""
import sys
sys.modules["torch"] = None
from vljax import interop
imported = interop.load({str(tmp_path / "clip.pt")!r})
z = imported.model().apply({{"params": imported.params}}, *imported.model().inputs(2))
assert z[0].shape == (2, 24)
"""
  subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
