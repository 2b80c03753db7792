import dataclasses

import numpy as np
import pytest

from vljax.data import sources, tokenizers, vocabulary
from vljax.data.vocabulary import Vocabulary

LEARNED = Vocabulary(kind="sentencepiece", length=12, learn="synthetic:pairs?n=60&size=8", size=300)


def test_it_is_learned_once_and_then_kept(tmp_path):
  first = vocabulary.prepare(LEARNED, tmp_path)
  assert (first.vocab_size, first.length) == (300, 12)
  again = vocabulary.prepare(LEARNED, tmp_path)
  assert again == first == tokenizers.load(tmp_path / "tokenizer")
  np.testing.assert_array_equal(first(["a red circle"]), again(["a red circle"]))


def test_the_same_captions_give_the_same_vocabulary(tmp_path):
  assert vocabulary.prepare(LEARNED, tmp_path / "a") == vocabulary.prepare(LEARNED, tmp_path / "b")


def test_few_captions_make_a_smaller_vocabulary(tmp_path):
  greedy = Vocabulary(kind="sentencepiece", length=12, learn="synthetic:pairs?n=60&size=8", size=4000)
  found = vocabulary.prepare(greedy, tmp_path)
  assert 260 < found.vocab_size < 4000
  with pytest.raises(tokenizers.TooFewTexts, match=f"legal: at most {found.vocab_size}"):
    tokenizers.train_sentencepiece(vocabulary.captions(sources.open(greedy.learn)), 4000)


@pytest.mark.parametrize(("name", "value"), [("length", 16), ("kind", "wordpiece")])
def test_a_kept_one_must_be_what_the_config_says(tmp_path, name, value):
  vocabulary.prepare(LEARNED, tmp_path)
  wrong = Vocabulary(**{"kind": "sentencepiece", "length": 12, name: value})
  kept = {"length": 12, "kind": "'sentencepiece'"}[name]
  with pytest.raises(ValueError, match=rf"holds a tokenizer of {name} {kept}; config.tokenizer.{name} = {value!r}"):
    vocabulary.prepare(wrong, tmp_path)


def test_only_sentencepiece_can_be_learned(tmp_path):
  with pytest.raises(ValueError, match=r"config.tokenizer.learn needs kind = 'sentencepiece'; found 'clip_bpe'"):
    vocabulary.prepare(Vocabulary(kind="clip_bpe", learn="synthetic:pairs"), tmp_path)


def test_rows_without_a_caption_are_passed_over(tmp_path):
  table = tmp_path / "rows.jsonl"
  table.write_text('{"image": "a.png", "caption": "one"}\n{"image": "b.png", "caption": ""}\n')
  assert vocabulary.captions(sources.open(f"jsonl:{table}")) == ["one"]


def test_a_source_without_captions_is_named(tmp_path):
  (tmp_path / "x.png").write_bytes(b"")
  with pytest.raises(ValueError, match="a vocabulary is learned from captions; folder:.* has none"):
    vocabulary.captions(sources.open(f"folder:{tmp_path}?caption=none"))


def test_added_tokens_are_kept(tmp_path):
  options = {"added": ["<image>", "<EOC>"]}
  wanted = dataclasses.replace(LEARNED, options=options)
  made = vocabulary.prepare(wanted, tmp_path)
  assert made.added == ("<image>", "<EOC>")
  assert (made.vocab_size, made.pieces, made.token_id("<EOC>")) == (302, 300, 301)
  assert vocabulary.prepare(wanted, tmp_path) == made
  with pytest.raises(
    ValueError, match=r"options.added \('<image>', '<EOC>'\); config.tokenizer.options.added = \('x',\)"
  ):
    vocabulary.prepare(dataclasses.replace(LEARNED, options={"added": ("x",)}), tmp_path)


def test_options_of_the_kind(data_dir):
  path = str(data_dir / "tokenizers/bert_base_uncased_vocab.txt")
  made = vocabulary.make(Vocabulary(kind="wordpiece", path=path, length=8, options={"added": ("<image>",)}))
  assert made.token_id("<image>") == 30522
