"""Documents of texts and media as tokens: who looks at what, what is to be predicted, which stretch is taken."""

import string

import numpy as np
import pytest
import tokenizers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax.data import interleave, tokenizers, transforms
from vljax.data.interleave import Interleave, Pair, phi, spell, stretch, targets

MARKS = ("<image>", "<EOC>")


def byte_level(added=MARKS) -> tokenizers.Tokenizer:
  """A byte-level BPE such as GPT-2's, of single bytes, whose begin and end are one token."""
  pieces = ["<|endoftext|>", *sorted(hf.pre_tokenizers.ByteLevel.alphabet())]
  core = hf.Tokenizer(hf.models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
  core.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
  core.decoder = hf.decoders.ByteLevel()
  core.add_special_tokens(["<|endoftext|>"])
  return tokenizers.HfJson(vocabulary=core.to_str().encode(), added=added)


BYTES = byte_level()
TEXTS = st.text(string.ascii_lowercase + " ", max_size=12)
DOCUMENTS = st.lists(st.one_of(TEXTS, st.just(None)), min_size=1, max_size=12)


def document(parts):
  """Items with media numbered in order, and as many media."""
  numbers = iter(range(len(parts)))
  items = [next(numbers) if part is None else part for part in parts]
  return {"items": items, "media": [f"medium {i}" for i in items if isinstance(i, int)]}


def names(ids):
  return [("<E>" if i == 0 else BYTES.decode([i])) for i in ids]


def test_the_spelling():
  ids, medium = spell(["ab", 0, "c", 1, 2, "d"], BYTES)
  assert names(ids) == ["<E>", "a", "b", "<EOC>", "<image>", "c", "<EOC>", "<image>", "<image>", "d", "<EOC>", "<E>"]
  assert medium.tolist() == [-1, -1, -1, -1, 0, -1, -1, 1, 2, -1, -1, -1]


def test_a_pair_is_spelled_as_in_the_paper():
  assert names(spell([0, "ab"], BYTES)[0]) == ["<E>", "<image>", "a", "b", "<EOC>", "<E>"]


def test_a_prompt_is_a_document_to_go_on_with():
  a, b = object(), [object(), object()]
  made = interleave.prompt(["x", "<EOC>", "y", a, "<EOC>", b, "z"], BYTES)
  assert names(made["tokens"]) == ["<E>", "x", "<EOC>", "y", "<EOC>", "<image>", "<image>", "z"]
  assert made["phi"].tolist() == [0, 0, 0, 0, 0, 1, 2, 2]
  assert made["media"] == [a, b]


def test_no_text_names_a_medium_or_ends_a_document():
  core = hf.Tokenizer.from_str(BYTES.vocabulary.decode())
  core.add_special_tokens(["<image>", "<EOC>"])
  own = tokenizers.HfJson(vocabulary=core.to_str().encode())
  assert own.added == ()
  assert own.token_id("<image>") == 257
  assert own.plain("<image>") == [257]
  ids, _ = spell(["a<image><|endoftext|>b<EOC>", 0], own)
  assert ids.tolist() == [0, *own.plain("ab"), 258, 257, 258, 0]


def test_looking_back_and_forward():
  stands = np.array([0, 0, 1, 0, 0, 1, 1, 0], bool)
  assert phi(stands).tolist() == [0, 0, 1, 1, 1, 2, 3, 3]
  assert phi(stands, forward=True).tolist() == [1, 1, 2, 2, 2, 3, 0, 0]
  assert targets(stands).tolist() == [False, True, False, True, True, False, False, True]


def test_the_end_of_a_document_that_ends_with_a_medium_is_predicted():
  made = Interleave(tokenizer=BYTES, rule="first")(document(["ab", None]), None)
  assert names(made["tokens"][made["loss_mask"]]) == ["a", "b", "<EOC>", "<EOC>", "<E>"]


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(DOCUMENTS, st.integers(2, 30), st.integers(0, 3), st.integers(0, 2**31))
def test_tokens_look_at_the_last_medium_that_is_there(parts, length, media, seed):
  step = Interleave(length=length, media=media, tokenizer=BYTES)
  made = step(document(parts), np.random.default_rng(seed))
  image, _ = interleave.marks(BYTES)
  stands = made["tokens"] == image
  assert len(made["tokens"]) <= length
  assert len(made["media"]) == stands.sum() <= media
  np.testing.assert_array_equal(made["phi"], np.cumsum(stands))
  np.testing.assert_array_equal(made["loss_mask"], ~stands & (np.arange(len(stands)) > 0))


@settings(deadline=None, max_examples=200)
@given(DOCUMENTS, st.integers(2, 30), st.integers(0, 3), st.integers(0, 2**31))
def test_tokens_that_look_forward_find_the_next_medium(parts, length, media, seed):
  step = Interleave(length=length, media=media, p_next=1.0, tokenizer=BYTES)
  made = step(document(parts), np.random.default_rng(seed))
  image, _ = interleave.marks(BYTES)
  places = np.flatnonzero(made["tokens"] == image)
  for at, number in enumerate(made["phi"]):
    later = np.flatnonzero(places > at)
    assert number == (later[0] + 1 if len(later) else 0)
  assert made["phi"].max(initial=0) <= len(made["media"])


@settings(deadline=None, max_examples=200)
@given(DOCUMENTS, st.integers(2, 30), st.integers(1, 3), st.integers(0, 2**31))
def test_a_stretch_is_a_part_of_the_document_without_the_media_beyond(parts, length, most, seed):
  made = document(parts)
  ids, medium = spell(made["items"], BYTES)
  kept = stretch(medium >= 0, length, most, np.random.default_rng(seed))
  assert (np.diff(kept) > 0).all()
  assert 0 < len(kept) <= length
  gone = np.setdiff1d(np.arange(kept[0], kept[-1] + 1), kept)
  assert (medium[gone] >= 0).all()
  assert len(gone) == 0 or (medium[kept] >= 0).sum() == most
  assert (medium[kept] >= 0).any() or not made["media"]
  assert len(kept) == length or kept[-1] == len(ids) - 1


def test_every_stretch_with_a_medium_is_as_likely_as_the_next():
  stands = np.zeros(20, bool)
  stands[10] = True
  rng = np.random.default_rng(0)
  starts = [stretch(stands, 5, 1, rng)[0] for _ in range(2000)]
  counts = np.bincount(starts, minlength=16)
  assert np.flatnonzero(counts).tolist() == [6, 7, 8, 9, 10]
  assert counts[6:11].min() > 330


def test_half_of_the_pages_look_forward():
  step = Interleave(tokenizer=BYTES, rule="first", p_next=0.5)
  assert step.random
  rng = np.random.default_rng(0)
  first = [step(document(["a", None, "b"]), rng)["phi"][0] for _ in range(400)]
  assert 160 < sum(first) < 240


def test_a_space_before_half_of_the_captions():
  step = Pair()
  rng = np.random.default_rng(0)
  made = [step({"image": "x", "caption": "a dog "}, rng) for _ in range(400)]
  assert {tuple(m["items"]) for m in made} == {(0, "a dog"), (0, " a dog")}
  assert 160 < sum(m["items"][1][0] == " " for m in made) < 240
  assert made[0]["media"] == ["x"]
  assert not Pair(p_space=0.0).random


def test_the_size_of_a_row_is_its_longest_caption():
  step = Interleave(length=9, media=2, tokenizer=BYTES)
  assert step.measure({"captions": ["ab", "abc"]}) == (8, 1)
  assert step.measure({"captions": ["abcdefgh"]}) == (9, 1)
  assert step.measure({"items": ["a", 0, 1, 2]}) == (8, 2)
  with pytest.raises(ValueError, match=r"'k' has neither items nor captions to measure; it has \['key'\]"):
    step.measure({"key": "k"})


def test_a_tokenizer_without_the_marks_is_told_how_to_get_them():
  with pytest.raises(ValueError, match=r'has no token \'<image>\'.*options = \{"added": \("<image>", "<EOC>"\)\}'):
    transforms.build([("interleave",)], byte_level(added=()))


@pytest.mark.parametrize(
  ("step", "message"),
  [
    (("interleave", 1), "length = 1, media = 5; legal: 2 or more tokens"),
    (("interleave", {"p_next": 1.5}), "p_next = 1.5; legal: 0 to 1"),
    (("interleave", {"rule": "last"}), "legal: first, random"),
    (("pair", -0.1), "p_space = -0.1; legal: 0 to 1"),
  ],
)
def test_wrong_options(step, message):
  with pytest.raises(ValueError, match=message):
    transforms.build([step], BYTES)


def test_published_vocabularies(data_dir):
  folder = data_dir / "tokenizers"
  made = (
    tokenizers.build("sentencepiece", path=folder / "t5_cc_all.32000.100extra.model", added=MARKS),
    tokenizers.build("clip_bpe", path=folder / "clip_bpe_simple_vocab_16e6.txt.gz", added=MARKS),
    tokenizers.build("wordpiece", path=folder / "bert_base_uncased_vocab.txt", added=MARKS),
  )
  for tokenizer in made:
    ids, medium = spell(["two dogs", 0, "a cat"], tokenizer)
    assert ids[0] == tokenizer.bos_id
    assert ids[-1] == tokenizer.eos_id
    assert (ids == tokenizer.pieces).nonzero()[0].tolist() == (medium >= 0).nonzero()[0].tolist()
    assert tokenizer.decode(ids[1:]) == "two dogs<EOC><image>a cat<EOC>"
