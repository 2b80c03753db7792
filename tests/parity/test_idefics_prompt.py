"""An IDEFICS folder opened by hub.load against transformers' processor and model: ids, what looks where, logits."""

import numpy as np
import pytest
import tokenizers

from vljax import hub
from vljax.idefics import AROUND, TURN, IdeficsBundle

pytestmark = pytest.mark.parity

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
WORDS = ["▁", *"abcdefghijklmnopqrstuvwxyz:.,", "User", "Assistant", "\n"]


@pytest.fixture(scope="module", params=[False, True], ids=["base", "instruct"])
def pair(request, torch, transformers, tmp_path_factory):
  """(their processor and model, our bundle of the same folder); `instruct` has a token that ends turns."""
  more = [AROUND, "<image>", *([TURN] if request.param else [])]
  core = tokenizers.Tokenizer(
    tokenizers.models.BPE({piece: i for i, piece in enumerate([*SPECIAL, *WORDS])}, [], unk_token="<unk>")
  )
  core.normalizer = tokenizers.normalizers.Sequence(
    [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
  )
  core.decoder = tokenizers.decoders.Sequence(
    [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.Fuse(), tokenizers.decoders.Strip(" ", 1, 0)]
  )
  core.add_special_tokens([tokenizers.AddedToken(token, normalized=False) for token in [*SPECIAL, *more]])
  names = dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>")
  words = transformers.PreTrainedTokenizerFast(tokenizer_object=core, additional_special_tokens=more, **names)
  base = len(SPECIAL) + len(WORDS)
  config = transformers.IdeficsConfig(
    vocab_size=base, additional_vocab_size=len(more), hidden_size=32, intermediate_size=44, num_hidden_layers=2,
    num_attention_heads=4, max_position_embeddings=128, use_resampler=True,
    vision_config=dict(
      embed_dim=24, image_size=8, patch_size=4, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40
    ),
    perceiver_config=dict(
      use_resampler=True, resampler_n_latents=3, resampler_depth=2, resampler_n_heads=2, resampler_head_dim=8
    ),
  )  # fmt: skip
  torch.manual_seed(0)
  model = transformers.IdeficsForVisionText2Text(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.1 * torch.randn_like(parameter)
  folder = tmp_path_factory.mktemp("idefics")
  processor = transformers.IdeficsProcessor(transformers.IdeficsImageProcessor(image_size=8), words)
  for part in (model, words, processor.image_processor):
    part.save_pretrained(folder)
  return processor, model, hub.load(folder)


def pictures(count):
  """Pictures of the size that the model sees: how to resize is tested elsewhere."""
  draw = np.random.default_rng(0)
  return [draw.integers(0, 255, (8, 8, 3), dtype=np.uint8) for _ in range(count)]


def prompts():
  a, b = pictures(2)
  return {
    "one": [a, "what is this"],
    "dialogue": ["User: ", a, "what is this\nAssistant: ", "a cat.\nUser: ", b, " and this\nAssistant:"],
    "side by side": ["see", a, b, "both"],
    "words": ["no picture, none"],
  }


@pytest.mark.parametrize("name", prompts())
def test_a_prompt_means_what_theirs_means(torch, pair, name):
  processor, model, bundle = pair
  parts = prompts()[name]
  turn = bundle.token_id(TURN) is not None
  # Their processor ends turns by itself, between texts that follow each other.
  inputs = processor(text=[parts], add_end_of_utterance_token=turn, return_tensors="pt")
  ours = [x for i, part in enumerate(parts) for x in ([part] if i == 0 else between(turn, parts[i - 1], part))]
  made = bundle.read([ours])
  np.testing.assert_array_equal(made["tokens"][0][made["real"][0]], inputs["input_ids"][0])
  with torch.no_grad():
    theirs = model(**inputs).logits[0].numpy()
  np.testing.assert_allclose(bundle.logits(ours), theirs, rtol=0, atol=1e-4)


def between(turn, before, part):
  return ["<EOC>", part] if turn and isinstance(before, str) and isinstance(part, str) else [part]


def test_it_writes_what_theirs_writes(torch, pair):
  processor, model, bundle = pair
  parts = prompts()["dialogue"][:3]
  inputs = processor(text=[parts], return_tensors="pt")
  with torch.no_grad():
    ids = model.generate(**inputs, max_new_tokens=8, do_sample=False, eos_token_id=list(bundle.stops), pad_token_id=3)
  new = ids[0, inputs["input_ids"].shape[1] :].tolist()
  written = bundle.writer.write(bundle.read([parts]), 8)[0]
  assert written == [i for i in new if i not in bundle.stops]
  assert isinstance(bundle, IdeficsBundle)


def test_a_text_cannot_spell_a_picture(pair):
  *_, bundle = pair
  with pytest.raises(ValueError, match="the text 'a <image> b' spells a picture; legal: the picture itself"):
    bundle.generate(["a <image> b"])
