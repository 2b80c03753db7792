"""transformers.SiglipModel with the same weights: features, scores, the loss, files both ways."""

import jax
import numpy as np
import pytest

from vljax import convert, interop
from vljax.interop import safetensors_reader
from vljax.objectives.contrastive import sigmoid_contrastive

pytestmark = pytest.mark.parity


@pytest.fixture
def tiny(torch, transformers, tmp_path):
  """(their model, its folder): random weights, no two norms alike."""
  sizes = dict(hidden_size=48, intermediate_size=100, num_hidden_layers=2, num_attention_heads=3)
  config = transformers.SiglipConfig(
    text_config=dict(
      **sizes, vocab_size=99, max_position_embeddings=12, bos_token_id=0, eos_token_id=1, pad_token_id=1
    ),
    vision_config=dict(**sizes, image_size=32, patch_size=8),
  )
  torch.manual_seed(0)
  model = transformers.SiglipModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.1 * torch.randn_like(parameter)
    model.logit_scale.fill_(np.log(117.0))
    model.logit_bias.fill_(-12.5)
  model.save_pretrained(tmp_path / "theirs")
  return model, tmp_path / "theirs"


def run(torch, model, compared):
  ids = torch.tensor(compared.tokens).long()
  return model(input_ids=ids, pixel_values=compared.pixels(), return_loss=True)


def test_features_scores_and_loss(torch, compare, tiny):
  model, folder = tiny
  imported = interop.load(folder)
  compared = compare(imported)
  with torch.no_grad():
    out = run(torch, model, compared)
  compared.assert_features(out.image_embeds, out.text_embeds, atol=1e-4)
  ours = compared.ours()
  apply = lambda method: compared.model.apply({"params": imported.params}, method=method)
  assert float(apply("scale")) == pytest.approx(117.0, rel=1e-5)  # SigLIP's scale goes past CLIP's limit of 100
  scores = apply("scale") * ours[1] @ ours[0].T + apply("offset")
  np.testing.assert_allclose(scores, out.logits_per_text.numpy(), rtol=0, atol=1e-4)
  loss, _ = sigmoid_contrastive(*ours, apply("scale"), apply("offset"))
  np.testing.assert_allclose(loss / len(ours[0]), float(out.loss), rtol=1e-5)


def test_gradients(torch, compare, tiny):
  model, folder = tiny
  imported = interop.load(folder)
  compared = compare(imported)
  run(torch, model, compared).loss.backward()

  def loss(params):
    z = compared.model.apply({"params": params}, compared.image, compared.tokens)
    apply = lambda method: compared.model.apply({"params": params}, method=method)
    return sigmoid_contrastive(*z, apply("scale"), apply("offset"))[0] / len(compared.image)

  grads = jax.jit(jax.grad(loss))(imported.params)
  gradients = interop.names.to_theirs(interop.siglip.TABLE, jax.tree.map(np.asarray, grads), "gradients")
  for name, parameter in model.named_parameters():
    theirs = parameter.grad.numpy()
    np.testing.assert_allclose(gradients[name], theirs, rtol=0, atol=1e-3 * np.abs(theirs).max() + 2e-6, err_msg=name)


def test_there_and_back_is_bit_equal(tiny, tmp_path):
  _, folder = tiny
  imported = interop.load(folder)
  assert interop.save(tmp_path / "back", imported, "siglip") == [f"{tmp_path / 'back'} holds no tokenizer files"]
  before, after = (safetensors_reader.state_dict(f / "model.safetensors") for f in (folder, tmp_path / "back"))
  assert before.keys() == after.keys()
  for name in before:
    np.testing.assert_array_equal(before[name], after[name], err_msg=name)
  assert convert.compare(imported, interop.load(tmp_path / "back")) == 0


def test_transformers_reads_what_we_write(torch, transformers, compare, tiny, tmp_path):
  model, folder = tiny
  interop.save(tmp_path / "back", interop.load(folder), "siglip")
  again = transformers.SiglipModel.from_pretrained(tmp_path / "back").eval()
  compared = compare(interop.load(folder))
  with torch.no_grad():
    a, b = run(torch, model, compared), run(torch, again, compared)
  np.testing.assert_array_equal(a.logits_per_text.numpy(), b.logits_per_text.numpy())
