"""Tokenizer files as transformers has them, read and written; tests/parity compares their ids with transformers'."""

import json

import pytest

from vljax.data import tokenizers
from vljax.interop import hf_tokenizer


def in_json(folder, pieces, padding=None, **files):
  """Words in a tokenizer.json of a folder, and JSON files beside it by their names without the ending."""
  model = dict(type="WordLevel", vocab={piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
  content = dict(version="1.0", model=model, added_tokens=[], padding=padding)
  for name, written in dict(tokenizer=content, **files).items():
    (folder / f"{name}.json").write_text(json.dumps(written))


def test_special_tokens_map_speaks_for_a_language_model_where_the_config_is_silent(tmp_path):
  tokens = dict(eos_token="<unk>", bos_token=dict(content="<s>"))
  in_json(tmp_path, ["<s>", "</s>", "<unk>"], tokenizer_config=dict(eos_token="</s>"), special_tokens_map=tokens)
  wanted = dict(kind="hf_json", path=str(tmp_path), length=8, eos="</s>", bos="<s>")
  assert hf_tokenizer.find(tmp_path, 8, []) == wanted


@pytest.fixture
def spiece(tmp_path):
  """A folder with a sentencepiece model whose end is `</s>`."""
  made = tokenizers.train_sentencepiece([f"a {c} thing" for c in "abcdefghijklm"], 20, byte_fallback=False)
  (tmp_path / "spiece.model").write_bytes(made.vocabulary)
  return tmp_path


def test_a_spiece_model_that_lacks_what_pads_it_is_named(spiece):
  (spiece / "special_tokens_map.json").write_text(json.dumps(dict(pad_token="<PAD>")))
  message = "spiece.model, padded with '<PAD>', the pad_token of special_tokens_map.json: .*has no token '<PAD>'"
  with pytest.raises(ValueError, match=message):
    hf_tokenizer.siglip(spiece, 8, [])
  (spiece / "special_tokens_map.json").write_text(json.dumps(dict(pad_token="<unk>")))
  assert hf_tokenizer.siglip(spiece, 8, [])["pad_id"] == 2
  (spiece / "special_tokens_map.json").unlink()
  (spiece / "spiece.model").write_bytes(b"no model")
  with pytest.raises(ValueError, match="spiece.model, padded with '</s>', the pad_token of SigLIP: not a Sentence"):
    hf_tokenizer.siglip(spiece, 8, [])


def test_a_special_token_that_is_no_name_is_refused(tmp_path):
  in_json(tmp_path, ["<s>", "</s>", "<unk>"], special_tokens_map=dict(pad_token=["a"]))
  with pytest.raises(ValueError, match=r"special_tokens_map.json: pad_token = \['a'\]; legal: the name of a token"):
    hf_tokenizer.pieces_json(tmp_path, 8, siglip=True)


PIECES = ["<pad>", "<eos>", "<unk>", "dog", "</s>"]


@pytest.mark.parametrize(
  ("options", "row"),
  [
    ({}, [3, 4, 0, 0]),
    (dict(eos="<eos>", pad_id=2), [3, 1, 2, 2]),
    (dict(pad_id=4, clean="siglip"), [3, 4, 4, 4]),
  ],
)
def test_what_ends_and_pads_texts_comes_back(tmp_path, options, row):
  usual = dict(strategy="BatchLongest", direction="Right", pad_to_multiple_of=None, pad_type_id=0)
  in_json(tmp_path, PIECES, padding=dict(**usual, pad_id=4, pad_token="</s>"))
  made = tokenizers.build("hf_json", path=str(tmp_path), length=4, **options)
  assert made("dog").tolist() == [row]
  assert hf_tokenizer.save(tmp_path, made, ended=True) == []
  again = tokenizers.build(**hf_tokenizer.siglip(tmp_path, 4, []))
  assert again("dog").tolist() == [row]


def test_an_added_token_that_pads_is_refused(tmp_path, spiece):
  in_json(tmp_path, PIECES)
  for kind, vocabulary, last in (("hf_json", tmp_path, 4), ("sentencepiece", spiece, 19)):
    options = dict(path=str(vocabulary), added=("<p>",), pad_id=last + 1, clean="siglip")
    made = tokenizers.build(kind, **options)
    with pytest.raises(ValueError, match=f"pad_id = {last + 1} is '<p>', which the vocabulary .*; legal: 0 to {last}"):
      hf_tokenizer.save(tmp_path, made, ended=True)


def test_a_language_models_texts_go_on_and_need_no_padding(tmp_path):
  in_json(tmp_path, ["!", "</s>", "<unk>"])
  made = tokenizers.build("hf_json", path=str(tmp_path))
  assert hf_tokenizer.save(tmp_path, made, ended=False) == []
  assert (tmp_path / "tokenizer.json").read_bytes() == made.vocabulary
  config = json.loads((tmp_path / "tokenizer_config.json").read_text())
  assert {key for key in config if key.endswith("_token")} == {"eos_token"}
