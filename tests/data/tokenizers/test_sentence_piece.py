"""SentencePiece: published ids, training that repeats itself, round trips."""

import io
import pickle
import re

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax.data import tokenizers
from vljax.data.tokenizers import train_sentencepiece

NOUNS = ["dog", "cat", "house", "tree", "red car", "blue sky", "old man", "young woman", "river", "mountain"]
TEXTS = [f"a photo of a {a} near the {b}" for a in NOUNS for b in NOUNS]


@pytest.fixture(scope="module")
def small():
  return train_sentencepiece(TEXTS, 295, length=16)


@pytest.fixture(scope="module")
def t5(data_dir):
  return tokenizers.build("sentencepiece", path=data_dir / "tokenizers/t5_cc_all.32000.100extra.model", length=12)


def test_t5(t5):
  assert (t5.vocab_size, t5.eos_id, t5.pad_id, t5.pool) == (32101, 1, 0, "eos")
  assert t5("A dog.")[0].tolist() == [72, 1783, 6, 1] + [0] * 8
  assert t5.decode(t5(["A dog.", "Two cats"])) == ["A dog.", "Two cats"]


def test_a_model_without_begin_or_end(tmp_path):
  for missing in ("bos", "eos"):
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(TEXTS), model_writer=made, vocab_size=40, minloglevel=2, **{f"{missing}_id": -1}
    )
    (tmp_path / f"{missing}.model").write_bytes(made.getvalue())
  with pytest.raises(ValueError, match=r"no begin-of-text piece; legal: bos = False"):
    tokenizers.build("sentencepiece", path=tmp_path / "bos.model", bos=True)
  with pytest.raises(ValueError, match=r"no end-of-text piece"):
    tokenizers.build("sentencepiece", path=tmp_path / "eos.model")


def test_training_repeats_itself(small):
  again = train_sentencepiece(iter(TEXTS), 295, length=16)
  assert again.vocabulary == small.vocabulary
  assert again.sha256 == small.sha256
  assert train_sentencepiece(TEXTS[:90], 290).sha256 != small.sha256


def test_ids(small):
  ids = small(["a dog", "a " * 40])
  assert ids.shape == (2, 16)
  assert ids.max() < small.vocab_size == 295
  assert (ids[0, -3:] == 0).all()
  assert ids[1, -1] == small.eos_id == 1
  assert (ids == small.eos_id).sum(1).tolist() == [1, 1]


def test_begin():
  tokenizer = train_sentencepiece(TEXTS, 295, bos=True)
  assert tokenizer("a dog")[0, 0] == 3
  assert tokenizer.decode(tokenizer("a dog")) == ["a dog"]


def test_lower(small):
  assert small("A DOG").tolist() == small("a dog").tolist()
  kept = train_sentencepiece([t.title() for t in TEXTS], 295, lower=False)
  assert kept("A Dog").tolist() != kept("a dog").tolist()


@settings(deadline=None, max_examples=100)
@given(st.text(st.characters(codec="utf-8", categories=["Ll", "Nd", "So"]), max_size=12))
def test_bytes_spell_what_the_vocabulary_lacks(text):
  tokenizer = train_once()
  ids = tokenizer.encode(text)
  assert 2 not in ids, "unknown"
  whole = tokenizer.decode(ids)
  assert tokenizer.encode(whole) == ids


CACHE = []


def train_once():
  if not CACHE:
    CACHE.append(train_sentencepiece(TEXTS, 295))
  return CACHE[0]


@pytest.mark.parametrize("size", [5000, 10])
def test_a_size_that_does_not_fit_names_the_nearest_that_does(size):
  with pytest.raises(
    ValueError, match=rf"vocab_size = {size} does not fit the 100 texts; legal: at (most|least) \d+"
  ) as e:
    train_sentencepiece(TEXTS, size)
  legal = int(re.search(r"(\d+)$", str(e.value))[1])
  assert train_sentencepiece(TEXTS, legal).vocab_size == legal


def test_bpe_model_and_errors():
  assert train_sentencepiece(TEXTS, 290, model="bpe").vocab_size == 290
  with pytest.raises(ValueError, match="unknown SentencePiece model 'unigrm'; did you mean 'unigram'"):
    train_sentencepiece(TEXTS, 290, model="unigrm")
  with pytest.raises(ValueError, match="no text that is not empty"):
    train_sentencepiece(["", "  "], 290)


def test_long_texts_are_learned_from():
  made = train_sentencepiece([" ".join(TEXTS * 5)], 290)
  assert min(made.encode("photo near the mountain")[:-1]) >= 260, "spelled in bytes"


def test_files_and_pickle(small, tmp_path):
  train_sentencepiece(TEXTS, 295, tmp_path, length=16)
  assert tokenizers.load(tmp_path) == small
  assert pickle.loads(pickle.dumps(small)) == small
  assert np.array_equal(tokenizers.build("sentencepiece", path=tmp_path, length=16)("a dog"), small("a dog"))


def test_not_a_model(tmp_path):
  (tmp_path / "spm.model").write_bytes(b"nonsense")
  with pytest.raises(ValueError, match=r"not a SentencePiece model \(8 bytes\)"):
    tokenizers.build("sentencepiece", path=tmp_path)


def test_padding_and_cleaning(small, tmp_path):
  small.save(tmp_path / "old")
  assert not {"pad_id", "clean"} & {*small.options}, "older checkpoints would differ"
  made = tokenizers.build("sentencepiece", path=tmp_path / "old", length=16, pad_id=1, clean="siglip")
  assert made("A dog, near: the_cat!").tolist() == made(" a   dog near thecat").tolist()
  assert made("a dog")[0, -4:].tolist() == [1] * 4
  assert made.plain("a dog!") == small.plain("a dog")
  assert made.decode(made("A dog!")) == ["a dog"]
  made.save(tmp_path / "new")
  assert tokenizers.load(tmp_path / "new") == made == pickle.loads(pickle.dumps(made))
  assert tokenizers.load(tmp_path / "old") == small
  with pytest.raises(ValueError, match="tokenizer sentencepiece: pad_id = 295; legal: 0 to 294"):
    tokenizers.build("sentencepiece", path=tmp_path / "old", pad_id=295)
  with pytest.raises(ValueError, match="unknown clean rule 'siglp'; did you mean 'siglip'"):
    tokenizers.build("sentencepiece", path=tmp_path / "old", clean="siglp")
