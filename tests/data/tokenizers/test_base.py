"""What all tokenizers share: added tokens, and ids without special ones."""

import pickle

import pytest

from vljax.data import tokenizers

TEXTS = [f"a {a} and a {b}" for a in ("dog", "cat", "cow") for b in ("pen", "cup", "box")]
MARKS = ("<image>", "<EOC>")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
  folder = tmp_path_factory.mktemp("bert")
  (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\ndog\n")
  return lambda **options: tokenizers.build("wordpiece", path=folder, length=6, **options)


def test_added_tokens_have_the_ids_after_the_vocabulary(bert, tmp_path):
  made = bert(added=MARKS)
  assert (made.pieces, made.vocab_size, made.token_id("<image>"), made.token_id("<EOC>")) == (6, 8, 6, 7)
  assert made.token_id("dog") == 5
  assert made("<image> dog").tolist() == bert()("<image> dog").tolist()
  assert made.decode([4, 6, 5, 7, 7, 3, 4]) == "a<image>dog<EOC><EOC>"
  made.save(tmp_path)
  assert tokenizers.load(tmp_path) == made == pickle.loads(pickle.dumps(made))


def test_a_checkpoint_without_added_tokens_stays_equal(bert):
  assert bert().options == {"strict": False, "lower": True}
  assert bert(added=MARKS).options == {"strict": False, "lower": True, "added": MARKS}


@pytest.mark.parametrize("added", [("dog",), ("<image>", "<image>")])
def test_a_token_is_added_once(bert, added):
  with pytest.raises(ValueError, match=rf"added = .*, but '{added[-1]}' is there already"):
    bert(added=added)


def test_unknown_tokens(bert):
  with pytest.raises(
    ValueError, match=r"tokenizer wordpiece has no token '<EOC>'; added to its vocabulary: \('<image>',\)"
  ):
    bert(added=("<image>",)).token_id("<EOC>")


def test_ids_without_special_ones(bert, data_dir):
  clip = tokenizers.build("clip_bpe", path=data_dir / "tokenizers/clip_bpe_simple_vocab_16e6.txt.gz")
  learned = tokenizers.train_sentencepiece(TEXTS, 275, bos=True)
  for made in (bert(), clip, learned):
    assert [made.bos_id, *made.plain("a dog"), made.eos_id] == made.encode("a dog")
  assert tokenizers.train_sentencepiece(TEXTS, 275).plain("a dog") == learned.plain("a dog")


def test_the_begin_of_a_tokenizer_json(tmp_path):
  import tokenizers as hf

  pieces = {"</s>": 0, "<s>": 1, "[unk]": 2, "<|im_start|>": 3}
  hf.Tokenizer(hf.models.WordLevel(pieces, unk_token="[unk]")).save(str(tmp_path / "tokenizer.json"))
  made = lambda **options: tokenizers.build("hf_json", path=tmp_path, **options)
  assert (made().bos_id, made(bos="<|im_start|>").bos_id) == (1, 3)
  assert made(bos="<|im_start|>").options["bos"] == "<|im_start|>"
  assert "bos" not in made().options
  with pytest.raises(ValueError, match="has no token '<bos>', which bos= names"):
    made(bos="<bos>")
