"""Loss and gradients of one train step against torch's, by transformers and by open_clip's own loss."""

import jax
import numpy as np
import pytest

from vljax import interop
from vljax.interop import hugging_face, names, openai

pytestmark = pytest.mark.parity


def assert_gradients(theirs: dict[str, np.ndarray], table, gradients, rtol: float = 1e-3) -> None:
  """Each parameter's gradient within `rtol` of its norm."""
  ours = names.to_theirs(table, gradients, "gradients")
  assert ours.keys() == theirs.keys()
  for key, wanted in theirs.items():
    difference, norm = np.linalg.norm(ours[key] - wanted), np.linalg.norm(wanted)
    assert difference <= rtol * norm + 1e-7, f"{key}: {difference} of {norm}"


@pytest.mark.parametrize("size", ["tiny", pytest.param("base", marks=pytest.mark.slow)])
def test_transformers(torch, transformers, compare, tmp_path, size):
  text = dict(
    vocab_size=99, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=12, eos_token_id=98, bos_token_id=0, pad_token_id=1,
  )  # fmt: skip
  vision = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, image_size=32,
                patch_size=8)  # fmt: skip
  config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
  torch.manual_seed(0)
  model = transformers.CLIPModel(config if size == "tiny" else transformers.CLIPConfig())
  model.save_pretrained(tmp_path)
  compared = compare(interop.load(tmp_path), batch=8 if size == "tiny" else 4)
  loss, gradients = compared.loss_and_gradients()
  out = model(input_ids=torch.tensor(compared.tokens).long(), pixel_values=compared.pixels(), return_loss=True)
  out.loss.backward()
  np.testing.assert_allclose(loss, out.loss.item(), rtol=1e-5)
  theirs = {k: p.grad.numpy() for k, p in model.named_parameters()}
  assert_gradients(theirs, hugging_face.TABLE, gradients)


@pytest.mark.parametrize("size", ["tiny", pytest.param("base", marks=pytest.mark.slow)])
def test_open_clip(torch, open_clip, compare, tmp_path, size):
  """`base` is open_clip's ViT-B-32, which has GELU, drawn at random."""
  torch.manual_seed(0)
  tiny = dict(
    embed_dim=24,
    quick_gelu=True,
    vision_cfg=dict(image_size=32, layers=2, width=64, patch_size=8),
    text_cfg=dict(context_length=12, vocab_size=99, width=64, heads=1, layers=2),
  )
  model = open_clip.CLIP(**tiny) if size == "tiny" else open_clip.create_model("ViT-B-32")
  torch.save(model.state_dict(), tmp_path / "clip.pt")
  options = dict(activation="quick_gelu") if size == "tiny" else dict(activation="gelu")
  found = interop.load(tmp_path / "clip.pt", format="open_clip", **options)
  compared = compare(found, batch=8 if size == "tiny" else 4)
  loss, gradients = compared.loss_and_gradients()
  image, text, scale = model(compared.pixels(), torch.tensor(compared.tokens).long())
  wanted = open_clip.ClipLoss()(image, text, scale)
  wanted.backward()
  np.testing.assert_allclose(loss, wanted.item(), rtol=1e-5)
  assert_gradients({k: p.grad.numpy() for k, p in model.named_parameters()}, openai.TABLE, gradients)


def test_a_step_of_adamw(torch, open_clip, compare, tmp_path):
  """The same update as torch's AdamW with CLIP's hyper-parameters and weight decay on all leaves."""
  import optax

  torch.manual_seed(0)
  model = open_clip.CLIP(
    embed_dim=24,
    quick_gelu=True,
    vision_cfg=dict(image_size=16, layers=1, width=64, patch_size=8),
    text_cfg=dict(context_length=12, vocab_size=99, width=64, heads=1, layers=1),
  )
  torch.save(model.state_dict(), tmp_path / "clip.pt")
  compared = compare(interop.load(tmp_path / "clip.pt"), batch=8)
  params = compared.imported.params
  optimizer = optax.adamw(1e-3, b1=0.9, b2=0.98, eps=1e-6, weight_decay=0.2)
  _, gradients = compared.loss_and_gradients()
  updates, _ = optimizer.update(gradients, optimizer.init(params), params)
  ours = names.to_theirs(openai.TABLE, jax.tree.map(np.add, params, updates), "x")
  image, text, scale = model(compared.pixels(), torch.tensor(compared.tokens).long())
  open_clip.ClipLoss()(image, text, scale).backward()
  torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2).step()
  for key, parameter in model.named_parameters():
    # Adam's first step is the gradient's sign, which is noise where the gradient is none (the bias of attention keys).
    clear = np.abs(parameter.grad.numpy()) > 1e-6
    np.testing.assert_allclose(ours[key][clear], parameter.detach().numpy()[clear], rtol=0, atol=2e-5, err_msg=key)
    assert key.endswith("in_proj_bias") or "embed" in key or clear.mean() > 0.9
