"""transformers' IdeficsForVisionText2Text with the same weights: logits of the whole model, files both ways."""

import jax
import numpy as np
import pytest

from vljax.interop import idefics, safetensors_reader

pytestmark = pytest.mark.parity

PHI = np.array([[0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2], [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "norms and vector gates"])
def tiny(request, torch, transformers, tmp_path_factory):
  """(their model, its folder, what we read): random weights, no two norms alike, no gate zero."""
  more = dict(qk_layer_norms=True, alpha_type="vector") if request.param else {}
  config = transformers.IdeficsConfig(
    vocab_size=40, additional_vocab_size=2, hidden_size=32, intermediate_size=44, num_hidden_layers=4,
    num_attention_heads=4, cross_layer_interval=2, max_position_embeddings=32, use_resampler=True,
    vision_config=dict(
      embed_dim=24, image_size=8, patch_size=4, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40
    ),
    perceiver_config=dict(
      use_resampler=True, resampler_n_latents=3, resampler_depth=2, resampler_n_heads=2, resampler_head_dim=8,
      qk_layer_norms_perceiver=request.param,
    ),
    **more,
  )  # fmt: skip
  torch.manual_seed(0)
  model = transformers.IdeficsForVisionText2Text(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.1 * torch.randn_like(parameter)
  folder = tmp_path_factory.mktemp("idefics")
  model.save_pretrained(folder)
  return model, folder, idefics.load(folder)


def batch():
  rng = np.random.default_rng(0)
  return rng.integers(3, 42, (2, 12)), rng.normal(size=(2, 2, 8, 8, 3)).astype(np.float32)


def theirs(torch, model, tokens, images):
  seen = np.arange(1, 3) == PHI[..., None]
  with torch.no_grad():
    return model(
      input_ids=torch.tensor(tokens),
      attention_mask=torch.ones(tokens.shape, dtype=torch.long),
      pixel_values=torch.tensor(images).permute(0, 1, 4, 2, 3),
      image_attention_mask=torch.tensor(seen).long(),
    ).logits.numpy()


def test_logits_of_the_whole_model(torch, tiny):
  module, _, seeing = tiny
  tokens, images = batch()
  model = seeing.model()
  assert model.xattn.at == (0, 2)
  ours = jax.jit(model.apply)({"params": seeing.params}, tokens, images[:, :, None], PHI)
  np.testing.assert_allclose(ours, theirs(torch, module, tokens, images), rtol=0, atol=1e-4)


def test_decoding_gives_their_logits(torch, tiny):
  """Theirs makes keys and values of the pictures anew at each step; ours keeps them."""
  module, _, seeing = tiny
  tokens, images = batch()
  model, variables = seeing.model(), {"params": seeing.params}
  visual = model.apply(variables, images[:, :, None], method="encode_image")
  start = jax.jit(lambda *x: model.apply(variables, *x, room=12, method="prefill"))
  step = jax.jit(lambda *x: model.apply(variables, *x, method="decode"))
  want = theirs(torch, module, tokens, images)
  logits, memory = start(tokens[:, :9], visual, PHI[:, :9])
  np.testing.assert_allclose(logits, want[:, :9], rtol=0, atol=1e-4)
  for i in range(9, 12):
    logits, memory = step(tokens[:, i : i + 1], memory)
    np.testing.assert_allclose(logits[:, 0], want[:, i], rtol=0, atol=1e-4)


def test_there_and_back_is_bit_equal(torch, transformers, tiny, tmp_path):
  module, folder, seeing = tiny
  assert idefics.save(tmp_path, seeing) == [f"{tmp_path} holds no tokenizer files"]
  before, after = (safetensors_reader.state_dict(f / "model.safetensors") for f in (folder, tmp_path))
  assert before.keys() == after.keys()
  for name in before:
    np.testing.assert_array_equal(before[name], after[name], err_msg=name)
  again = transformers.IdeficsForVisionText2Text.from_pretrained(tmp_path).eval()
  np.testing.assert_array_equal(*(theirs(torch, m, *batch()) for m in (module, again)))
