"""transformers.BertModel with the same weights: outputs, pooled features, files both ways."""

import numpy as np
import pytest

from vljax.interop import bert, safetensors_reader
from vljax.models import bert as models

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def tiny(torch, transformers, tmp_path_factory):
  """(their model, its folder): random weights, no two norms alike."""
  config = transformers.BertConfig(
    vocab_size=99, hidden_size=48, intermediate_size=100, num_hidden_layers=2, num_attention_heads=3,
    max_position_embeddings=12,
  )  # fmt: skip
  torch.manual_seed(0)
  model = transformers.BertModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.1 * torch.randn_like(parameter)
  folder = tmp_path_factory.mktemp("bert")
  model.save_pretrained(folder)
  return model, folder


def batch():
  rng = np.random.default_rng(0)
  tokens = rng.integers(1, 99, (4, 12)).astype(np.int32)
  for row, end in zip(tokens, (12, 7, 3, 1), strict=True):
    row[end:] = 0
  return tokens, rng.integers(0, 2, (4, 12)).astype(np.int32)


def theirs(torch, model, tokens, segments):
  ids, kinds = (torch.tensor(x).long() for x in (tokens, segments))
  with torch.no_grad():
    return model(input_ids=ids, token_type_ids=kinds, attention_mask=(ids != 0).long())


def test_outputs_and_pooled_features(torch, tiny):
  model, folder = tiny
  tower = bert.load(folder)
  ours = models.build(**{k: v for k, v in tower.config.items() if k != "tower"})
  assert ours.pool == "pooler"
  tokens, segments = batch()
  out = theirs(torch, model, tokens, segments)
  real = tokens != 0
  hidden = np.asarray(ours.apply(tower.variables, tokens, segments, method="tokens"))
  np.testing.assert_allclose(hidden[real], out.last_hidden_state.numpy()[real], rtol=0, atol=1e-4)
  pooled = ours.apply(tower.variables, tokens, segments)
  np.testing.assert_allclose(pooled, out.pooler_output.numpy(), rtol=0, atol=1e-4)


def test_the_mean_is_over_real_tokens(torch, tiny):
  model, folder = tiny
  tower = bert.load(folder, pool="mean")
  tokens, segments = batch()
  out = theirs(torch, model, tokens, segments).last_hidden_state.numpy()
  ours = models.build(**{k: v for k, v in tower.config.items() if k != "tower"})
  mean = np.stack([x[row != 0].mean(0) for x, row in zip(out, tokens, strict=True)])
  np.testing.assert_allclose(ours.apply(tower.variables, tokens, segments), mean, rtol=0, atol=1e-4)


def test_there_and_back_is_bit_equal(torch, transformers, tiny, tmp_path):
  model, folder = tiny
  assert bert.save(tmp_path, bert.load(folder)) == [f"{tmp_path} holds no tokenizer files"]
  before, after = (safetensors_reader.state_dict(f / "model.safetensors") for f in (folder, tmp_path))
  assert before.keys() == after.keys()
  for name in before:
    np.testing.assert_array_equal(before[name], after[name], err_msg=name)
  again = transformers.BertModel.from_pretrained(tmp_path).eval()
  a, b = (theirs(torch, m, *batch()).pooler_output.numpy() for m in (model, again))
  np.testing.assert_array_equal(a, b)


def test_heads_of_pretraining_are_left_out(torch, transformers, tiny, tmp_path):
  model, _ = tiny
  whole = transformers.BertForPreTraining(model.config)
  whole.bert.load_state_dict(model.state_dict())
  whole.save_pretrained(tmp_path)
  tower = bert.load(tmp_path)
  np.testing.assert_array_equal(
    tower.weights["text"]["token"]["embedding"], model.embeddings.word_embeddings.weight.detach().numpy()
  )
