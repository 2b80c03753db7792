"""transformers.SiglipModel with the same weights: features, scores, the loss, files both ways."""

import io

import jax
import numpy as np
import pytest
import sentencepiece

from vljax import convert, interop
from vljax.data import tokenizers
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


TEXTS = ("A photo of a Dog.", "a photo of a dog", " two  cats,\n near_the-river! ", "", "it's 3 & <b>", "dog " * 20)
CORPUS = [f"a photo of a {a} near the {b}, {n}!" for a in ("dog", "cat") for b in ("river", "tree") for n in range(9)]


@pytest.fixture(scope="module")
def spiece(tmp_path_factory):
  """A sentencepiece model with the special ids of C4's: pad 0, end 1, unknown 2, no begin."""
  made = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(CORPUS), model_writer=made, vocab_size=60, minloglevel=2, hard_vocab_limit=False,
    pad_id=0, eos_id=1, unk_id=2, bos_id=-1, add_dummy_prefix=True,
  )  # fmt: skip
  file = tmp_path_factory.mktemp("spiece") / "spiece.model"
  file.write_bytes(made.getvalue())
  return file


def rows(tokenizer, texts, **options):
  """Their ids [n 12]."""
  found = tokenizer(list(texts), padding="max_length", truncation=True, max_length=12, **options)
  return np.array(found["input_ids"])


def test_strings_as_siglips_tokenizer_reads_them(transformers, tiny, spiece, tmp_path):
  _, folder = tiny
  theirs = transformers.SiglipTokenizer(str(spiece), model_max_length=12)
  theirs.save_pretrained(folder)
  imported = interop.load(folder)
  ours = tokenizers.build(**imported.tokenizer)
  assert (ours.pad_id, ours.clean) == (1, "siglip")
  np.testing.assert_array_equal(ours(TEXTS), rows(theirs, TEXTS))
  assert interop.save(tmp_path / "back", imported, "siglip") == []
  again = transformers.SiglipTokenizer.from_pretrained(tmp_path / "back")
  np.testing.assert_array_equal(rows(again, TEXTS), rows(theirs, TEXTS))


def gemma():
  """A byte-pair vocabulary with Gemma's special ids, and an end-of-text name of others among its pieces."""
  letters = sorted({*"".join(CORPUS), "▁", "A", "D"} - {" "})
  pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "</s>", *letters, "do", "dog", "▁dog"]
  return {piece: i for i, piece in enumerate(pieces)}, [("d", "o"), ("do", "g"), ("▁", "dog")]


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "as made"])
def test_strings_as_siglip_2s_tokenizer_reads_them(transformers, tiny, tmp_path, ended):
  """The published tokenizer.json ends texts, one as transformers makes it need not; what we write does."""
  _, folder = tiny
  vocabulary, merges = gemma()
  theirs = transformers.Siglip2Tokenizer(vocab=vocabulary, merges=merges, padding_side="right", add_eos_token=ended)
  theirs.save_pretrained(folder)
  imported = interop.load(folder)
  assert {name: imported.tokenizer[name] for name in ("eos", "pad_id", "clean")} == dict(
    eos="<eos>", pad_id=0, clean="siglip2"
  )
  ours = tokenizers.build(**imported.tokenizer)
  if ended:
    np.testing.assert_array_equal(ours(TEXTS), rows(theirs, TEXTS))
  for name in ("tokenizer_config.json", "special_tokens_map.json"):
    (folder / name).unlink(missing_ok=True)
  assert interop.load(folder).tokenizer == imported.tokenizer
  assert interop.save(tmp_path / "back", imported, "siglip") == []
  again = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
  np.testing.assert_array_equal(rows(again, TEXTS), ours(TEXTS))
  np.testing.assert_array_equal(tokenizers.build(**interop.load(tmp_path / "back").tokenizer)(TEXTS), ours(TEXTS))
