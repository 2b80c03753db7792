"""OpenFlamingo's and lucidrains' resampler and gated block with the same weights, and their checkpoints both ways."""

import importlib.util
import sys

import jax
import numpy as np
import pytest

from vljax.interop import open_flamingo, torch_reader
from vljax.models import gated_xattn, resampler

pytestmark = pytest.mark.parity

DIM, VISUAL, LATENTS = 48, 32, 6


def sources():
  """The two files by their paths: their packages import far more than they need."""
  found = {}
  for name, file in (("open_flamingo", "src/helpers.py"), ("flamingo_pytorch", "flamingo_pytorch.py")):
    package = importlib.util.find_spec(name)
    if package is None or importlib.util.find_spec("einops_exts") is None:
      pytest.skip(f"needs {name} and einops-exts: make parity installs them")
    spec = importlib.util.spec_from_file_location(f"{name}_modules", f"{package.submodule_search_locations[0]}/{file}")
    found[name] = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found[name]
    spec.loader.exec_module(found[name])
  return found


@pytest.fixture(scope="module")
def theirs(torch):
  return sources()


def noisy(torch, module):
  """Random weights, no two norms alike, no gate zero."""
  torch.manual_seed(0)
  with torch.no_grad():
    for parameter in module.parameters():
      parameter += 0.2 * torch.randn_like(parameter)
  return module.eval()


def state(module, prefix):
  return {f"{prefix}.{name}": array.numpy() for name, array in module.state_dict().items()}


def draw(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 3])
def test_resampler(torch, theirs, frames):
  """With frame embeddings, of which theirs takes the first; ours spreads them, so that all frames are used here."""
  made = theirs["open_flamingo"].PerceiverResampler(
    dim=VISUAL, depth=2, num_latents=LATENTS, max_num_frames=frames if frames > 1 else None
  )
  module, media = noisy(torch, made), draw(2, 2, frames, 9, VISUAL)
  seeing = open_flamingo.from_state(state(module, "perceiver"), "memory")
  model = resampler.build(**seeing.config["resampler"])
  assert (model.depth, model.latents, model.frames) == (2, LATENTS, frames if frames > 1 else 0)
  with torch.no_grad():
    want = module(torch.tensor(media)).numpy()
  ours = jax.jit(model.apply)({"params": seeing.params["resampler"]}, media)
  np.testing.assert_allclose(ours, want, rtol=0, atol=1e-5)


def test_resampler_of_lucidrains(torch, theirs):
  """It resamples each step of time by itself; with one it is the same, but for embeddings that number the media."""
  module = noisy(torch, theirs["flamingo_pytorch"].PerceiverResampler(dim=VISUAL, depth=2, num_latents=LATENTS))
  arrays = {
    f"perceiver.{name}": array.numpy() for name, array in module.state_dict().items() if name != "media_pos_emb"
  }
  with pytest.raises(ValueError, match="perceiver.media_pos_emb numbers the media"):
    open_flamingo.from_state(state(module, "perceiver"), "memory")
  with torch.no_grad():
    module.media_pos_emb.zero_()
  zeroed = open_flamingo.from_state(state(module, "perceiver"), "memory")
  seeing = open_flamingo.from_state(arrays, "memory")
  jax.tree.map(np.testing.assert_array_equal, seeing.params, zeroed.params)
  media = draw(2, 3, 9, VISUAL)
  with torch.no_grad():
    want = module(torch.tensor(media)).numpy()
  model = resampler.build(**seeing.config["resampler"])
  ours = jax.jit(model.apply)({"params": seeing.params["resampler"]}, media[:, :, None])
  np.testing.assert_allclose(ours, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["open_flamingo", "flamingo_pytorch"])
def test_gated_block(torch, theirs, name):
  kind = theirs[name].GatedCrossAttentionBlock
  module = noisy(torch, kind(dim=DIM, dim_visual=VISUAL) if name == "open_flamingo" else kind(dim=DIM))
  width = VISUAL if name == "open_flamingo" else DIM
  seeing = open_flamingo.from_state(state(module, "gated_cross_attn_layers.0"), "memory")
  model = gated_xattn.build(**seeing.config["xattn"])
  x, visual = draw(2, 10, DIM), draw(2, 2, 5, width)
  locations = np.zeros((2, 10), bool)
  locations[0, [2, 6]] = locations[1, [0, 1]] = True
  with torch.no_grad():
    want = module(torch.tensor(x), torch.tensor(visual), media_locations=torch.tensor(locations)).numpy()

  @jax.jit
  def ours(params, x, visual, phi):
    insert = model.apply({"params": params}, visual, phi)
    return insert.apply(jax.tree.map(lambda p: p[0], insert.params), x, None)

  found = ours(seeing.params["xattn"], x, visual, np.cumsum(locations, 1))
  np.testing.assert_allclose(found, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("released", [False, True])
def test_there_and_back_is_bit_equal(torch, theirs, tmp_path, released):
  """Blocks before layers 1 and 3 of four, by the list of them or, as in released files, by their layers."""
  module = theirs["open_flamingo"]
  arrays = state(noisy(torch, module.PerceiverResampler(dim=VISUAL, depth=2, num_latents=LATENTS)), "perceiver")
  place = "transformer.blocks.{}.gated_cross_attn_layer" if released else "gated_cross_attn_layers.{}"
  for i in (1, 3):
    block = noisy(torch, module.GatedCrossAttentionBlock(dim=DIM, dim_visual=VISUAL))
    arrays |= state(block, f"lang_encoder.{place.format(i)}")
  arrays["lang_encoder.transformer.wte.weight"] = draw(22, DIM)
  torch.save({name: torch.tensor(array) for name, array in arrays.items()}, tmp_path / "theirs.pt")
  seeing = open_flamingo.load(tmp_path / "theirs.pt", vocab=20)
  assert gated_xattn.build(**seeing.config["xattn"]).at == (1, 3)
  np.testing.assert_array_equal(
    seeing.params["lm"]["extra_in"]["embedding"], arrays.pop("lang_encoder.transformer.wte.weight")[[21, 20]]
  )
  open_flamingo.save(tmp_path / "ours.pt", seeing)
  again = torch_reader.state_dict(tmp_path / "ours.pt")
  listed = lambda name: name.replace("transformer.blocks", "gated_cross_attn_layers").replace(
    ".gated_cross_attn_layer.", "."
  )
  want = {listed(name) if released else name: array for name, array in arrays.items()}
  assert again.keys() == want.keys()
  for name, array in want.items():
    np.testing.assert_array_equal(again[name], array, err_msg=name)
