"""WordPiece and tokenizer.json."""

import pickle
import string

import pytest
import tokenizers as hf

from vljax.data import tokenizers
from vljax.data.tokenizers import cleaning

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "un", "##able", "##s", "."]


@pytest.fixture
def vocab(tmp_path):
  (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
  return tmp_path


def test_wordpiece(vocab):
  made = tokenizers.build("wordpiece", path=vocab, length=8)
  assert made("A dógs unable Xyz.").tolist() == [[2, 4, 5, 8, 6, 7, 1, 3]]
  assert made("dog").tolist() == [[2, 5, 3, 0, 0, 0, 0, 0]]
  assert made.decode(made("a dogs.")) == ["a dogs."]
  assert (made.eos_id, made.pad_id, made.vocab_size, made.pool) == (3, 0, 10, "eos")
  made.save(vocab / "saved")
  assert tokenizers.load(vocab / "saved") == made == pickle.loads(pickle.dumps(made))


def test_cased_wordpiece(vocab):
  assert tokenizers.build("wordpiece", path=vocab, lower=False, length=4)("A").tolist() == [[2, 1, 3, 0]]


def test_bert(data_dir):
  made = tokenizers.build("wordpiece", path=data_dir / "tokenizers/bert_base_uncased_vocab.txt", length=10)
  assert made("A dóg unbelievable.")[0].tolist() == [101, 1037, 3899, 23653, 1012, 102, 0, 0, 0, 0]


def test_vocabulary_without_special_pieces(tmp_path):
  (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\na\n")
  with pytest.raises(ValueError, match=r"3 pieces lacks \[CLS\], \[SEP\]"):
    tokenizers.build("wordpiece", path=tmp_path)


@pytest.fixture
def words(tmp_path):
  core = hf.Tokenizer(hf.models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "dog": 3, "cat": 4}, unk_token="<unk>"))
  core.pre_tokenizer = hf.pre_tokenizers.Whitespace()
  core.enable_truncation(2)
  core.enable_padding(length=3)
  core.save(str(tmp_path / "tokenizer.json"))
  return tmp_path


def test_tokenizer_json(words):
  made = tokenizers.build("hf_json", path=words, length=4)
  assert made(["dog cat", "cat dog dog dog dog", "bird"]).tolist() == [[3, 4, 1, 0], [4, 3, 3, 1], [2, 1, 0, 0]]
  assert made.decode(made("dog cat")) == ["dog cat"]
  made.save(words / "saved")
  assert tokenizers.load(words / "saved") == made == pickle.loads(pickle.dumps(made))


def test_tokenizer_json_end_token(words):
  assert tokenizers.build("hf_json", path=words, length=3, eos="cat")("dog").tolist() == [[3, 4, 0]]
  with pytest.raises(ValueError, match="/tokenizer.json: the tokenizer.json has no end-of-text token </x>; name it"):
    tokenizers.build("hf_json", path=words, eos="</x>")


def test_not_a_tokenizer_json(tmp_path):
  (tmp_path / "tokenizer.json").write_text("{}")
  with pytest.raises(ValueError, match=r"not a tokenizer.json \(2 bytes\)"):
    tokenizers.build("hf_json", path=tmp_path)


def test_load_names_what_is_wrong(tmp_path):
  with pytest.raises(FileNotFoundError, match="holds no tokenizer: there is no vljax_tokenizer.json"):
    tokenizers.load(tmp_path)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ('{"kind": "wordpiece",', "is damaged: it is not JSON: Expecting property name"),
    ('{"kind": "wordpiece"}', "is damaged: it lacks sha256, length, vocab_size, eos_id, pool, options"),
    ("[]", "is damaged: it lacks kind, "),
  ],
)
def test_a_damaged_spec_is_named(tmp_path, content, message):
  (tmp_path / tokenizers.SPEC).write_text(content)
  with pytest.raises(ValueError, match=f"^{tmp_path}/vljax_tokenizer.json {message}"):
    tokenizers.load(tmp_path)


def test_a_changed_vocabulary_is_named(vocab):
  tokenizers.build("wordpiece", path=vocab).save(vocab / "saved")
  (vocab / "saved/vocab.txt").write_text("\n".join([*PIECES, "new"]))
  with pytest.raises(
    ValueError, match=r"vocab.txt has sha256 \w{64}, but vljax_tokenizer.json says \w{64}: it was changed"
  ):
    tokenizers.load(vocab / "saved")
  (vocab / "saved/vocab.txt").unlink()
  with pytest.raises(FileNotFoundError, match="the vocabulary .*vocab.txt is missing"):
    tokenizers.load(vocab / "saved")


def test_build_names_the_nearest(vocab):
  with pytest.raises(ValueError, match="unknown tokenizer 'wordpeace'; did you mean 'wordpiece'"):
    tokenizers.build("wordpeace")
  with pytest.raises(ValueError, match="unknown option 'lenght' of tokenizer wordpiece; did you mean 'length'"):
    tokenizers.build("wordpiece", path=vocab, lenght=3)
  with pytest.raises(ValueError, match="tokenizer wordpiece needs the option path; its signature: wordpiece"):
    tokenizers.build("wordpiece")
  with pytest.raises(ValueError, match="length = 1; legal: 2 or more"):
    tokenizers.build("wordpiece", path=vocab, length=1)
  with pytest.raises(FileNotFoundError, match="there is no vocabulary file .*nowhere"):
    tokenizers.build("wordpiece", path=vocab / "nowhere")


def test_tokenizer_json_padding_and_cleaning(words):
  old = tokenizers.build("hf_json", path=words, length=4)
  made = tokenizers.build("hf_json", path=words, length=4, pad_id=1, clean="canonicalize")
  assert made(["DOG_cat!", "dog"]).tolist() == [[3, 4, 1, 1], [3, 1, 1, 1]]
  assert made.plain("Dog.") == [3]
  assert old("DOG").tolist() == [[2, 1, 0, 0]]
  assert not {"pad_id", "clean"} & {*old.options}, "older checkpoints would differ"
  made.save(words / "saved")
  assert tokenizers.load(words / "saved") == made == pickle.loads(pickle.dumps(made))
  with pytest.raises(ValueError, match="tokenizer hf_json: pad_id = -1; legal: 0 to 4"):
    tokenizers.build("hf_json", path=words, pad_id=-1)


@pytest.mark.parametrize("rule", ["siglip", "siglip2"])
def test_a_tokenizer_json_holds_a_cleaning(words, rule):
  made = tokenizers.build("hf_json", path=words, clean=rule)
  alone = tokenizers.build("hf_json", content=made.standalone(ended=False))
  sigmas = ("ΟΔΟΣ ΣΑΣ. Σ", "ΑΣ'Α ΑΣ' Α.Σ ΑΣ-Α", "ΑΣ\u0301Α ʰΣ aΣΣ")
  for text in ("A DOG, a-cat! [x]^\\", " dog\n\tcat ", string.punctuation, "dog_cat İ Σ", *sigmas):
    assert alone.encode(text) == made.encode(text)
    assert alone._core.normalizer.normalize_str(text) == cleaning.clean(text, rule)


@pytest.mark.parametrize(
  "own",
  [
    None,
    hf.processors.ByteLevel(),
    hf.processors.TemplateProcessing(single="cat $A cat dog", special_tokens=[("cat", 4), ("dog", 3)]),
    hf.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)]),
  ],
)
def test_a_tokenizer_json_ends_texts(words, own):
  core = hf.Tokenizer.from_file(str(words / "tokenizer.json"))
  core.post_processor = own
  core.no_truncation()
  core.no_padding()
  core.save(str(words / "tokenizer.json"))
  made = tokenizers.build("hf_json", path=words)
  assert made.standalone(ended=False) == made.vocabulary
  alone = hf.Tokenizer.from_str(made.standalone(ended=True).decode())
  for text in ("dog cat", "cat bird", "dog"):
    assert alone.encode(text).ids == made.encode(text)
    assert alone.encode(text, add_special_tokens=False).ids == made.plain(text)
