"""transformers' language models with the same weights: logits, files both ways; relative positions by XLNet's."""

import json

import jax
import numpy as np
import pytest

from vljax.interop import language_models, safetensors_reader
from vljax.layers import position
from vljax.layers.decoder import DecoderAttention, Places
from vljax.models import decoder

pytestmark = pytest.mark.parity

SIZE = dict(vocab_size=99, num_hidden_layers=2, hidden_size=64, num_attention_heads=4, max_position_embeddings=20)
MPT = dict(vocab_size=99, d_model=48, n_layers=2, max_seq_len=20)
ROPE = dict(rope_type="default", rope_theta=500.0)
CASES = {
  "opt": ("OPTConfig", dict(**SIZE, ffn_dim=100, word_embed_proj_dim=64)),
  "opt post-norm": ("OPTConfig", dict(**SIZE, ffn_dim=100, word_embed_proj_dim=24, do_layer_norm_before=False)),
  "opt without biases": ("OPTConfig", dict(**SIZE, ffn_dim=100, word_embed_proj_dim=64, enable_bias=False)),
  "gpt_neox": ("GPTNeoXConfig", dict(**SIZE, intermediate_size=100)),
  "gpt_neox in a row": (
    "GPTNeoXConfig",
    dict(**SIZE, intermediate_size=100, use_parallel_residual=False, hidden_act="gelu_new", attention_bias=False,
         rope_parameters=dict(**ROPE, partial_rotary_factor=0.5)),
  ),
  "llama": ("LlamaConfig", dict(**SIZE, intermediate_size=100)),
  "llama grouped": (
    "LlamaConfig",
    dict(**SIZE, intermediate_size=100, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True, mlp_bias=True,
         attention_bias=True, rms_norm_eps=1e-3, rope_parameters=ROPE),
  ),
  "mpt": ("MptConfig", dict(**MPT, n_heads=4)),
  "mpt 3 heads": ("MptConfig", dict(**MPT, n_heads=3)),
  "gpt2": ("GPT2Config", dict(vocab_size=99, n_embd=48, n_layer=2, n_head=4, n_positions=20)),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def tiny(request, torch, transformers, tmp_path_factory):
  """(their model, its folder, the family): random weights, no two norms alike."""
  name, options = CASES[request.param]
  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**options)).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.1 * torch.randn_like(parameter)
  folder = tmp_path_factory.mktemp("lm")
  model.save_pretrained(folder)
  return model, folder, request.param.split()[0]


def tokens():
  """Two texts, the second of which has padding in front."""
  ids = np.random.default_rng(0).integers(3, 99, (2, 14)).astype(np.int32)
  real = np.ones((2, 14), bool)
  real[1, :5] = False
  return ids, real


def theirs(torch, model, ids, real):
  with torch.no_grad():
    return model(input_ids=torch.tensor(ids).long(), attention_mask=torch.tensor(real).long()).logits.numpy()


def test_logits(torch, tiny):
  model, folder, family = tiny
  tower = language_models.load(folder)
  ours = decoder.build(**tower.config)
  ids, real = tokens()
  want = theirs(torch, model, ids, real)
  run = jax.jit(lambda **options: ours.apply(tower.variables, ids, **options))
  np.testing.assert_allclose(run()[0], want[0], rtol=0, atol=1e-4)
  # transformers' GPT-2 counts padding as positions unless it is told better.
  at = {"positions": np.tile(np.arange(14), (2, 1))} if family == "gpt2" else {}
  np.testing.assert_allclose(np.asarray(run(key_padding=real, **at))[real], want[real], rtol=0, atol=1e-4)


def test_there_and_back_is_bit_equal(torch, transformers, tiny, tmp_path):
  model, folder, family = tiny
  assert language_models.save(tmp_path, language_models.load(folder), family) == [
    f"{tmp_path} holds no tokenizer files"
  ]
  before, after = (safetensors_reader.state_dict(f / "model.safetensors") for f in (folder, tmp_path))
  assert before.keys() == after.keys()
  for name in before:
    np.testing.assert_array_equal(before[name], after[name], err_msg=name)
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
  ids, real = tokens()
  np.testing.assert_allclose(theirs(torch, again, ids, real), theirs(torch, model, ids, real), rtol=0, atol=1e-5)


def test_older_configs_mean_the_same(tiny):
  """As transformers wrote them before version 5."""
  _, folder, family = tiny
  content = json.loads((folder / "config.json").read_text())
  rope = content.pop("rope_parameters", None)
  if rope is None:
    pytest.skip(f"{family} has no rotary positions")
  content |= {"rope_theta": rope["rope_theta"]} if family == "llama" else {}
  neox = family == "gpt_neox"
  content |= {"rotary_emb_base": rope["rope_theta"], "rotary_pct": rope["partial_rotary_factor"]} if neox else {}
  config = language_models.FAMILIES[family].config
  assert config.read(content, "here") == language_models.load(folder).config


def test_relative_positions(torch, transformers):
  """One layer of Transformer-XL's attention as XLNet has it, whose layer norm and residual are taken away."""
  from transformers.models.xlnet.modeling_xlnet import XLNetModel, XLNetRelativeAttention

  heads, dim, width, t = 4, 6, 32, 11
  config = transformers.XLNetConfig(d_model=width, n_head=heads, d_inner=8, n_layer=1)
  config.d_head = dim  # ours may be narrower than width / heads; theirs need not, either
  layer = XLNetRelativeAttention(config).eval()
  layer.layer_norm = torch.nn.Identity()
  rng = np.random.default_rng(0)
  weights = {name: rng.normal(size=p.shape).astype(np.float32) / 3 for name, p in layer.named_parameters()}
  layer.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
  x = rng.normal(size=(2, t, width)).astype(np.float32)
  angle = 1 / 10_000 ** (torch.arange(0, width, 2) / width)
  distances = XLNetModel.positional_embedding(torch.arange(t, -1, -1.0), angle)
  later = torch.triu(torch.ones(t, t), 1)[:, :, None, None]
  h = torch.tensor(x.transpose(1, 0, 2))
  with torch.no_grad():
    found = layer(h, None, later, None, distances.expand(-1, 2, -1), None)[0] - h

  params = {name: {"kernel": weights[key]} for name, key in zip(("query", "key", "value"), "qkv", strict=True)}
  params |= {"out": {"kernel": weights["o"].transpose(1, 2, 0)}, "distance": weights["r"]}
  params |= {"content_bias": weights["r_w_bias"], "distance_bias": weights["r_r_bias"]}
  ours = DecoderAttention(heads, dim, use_bias=False, relative=True)
  places = Places({"causal": True}, sinusoids=position.sinusoids(np.arange(t), width))
  y, _ = ours.apply({"params": params}, x, None, 0, places)
  np.testing.assert_allclose(y, found.numpy().transpose(1, 0, 2), rtol=0, atol=1e-4)
