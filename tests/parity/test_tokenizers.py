"""Ids equal to open_clip's tokenizer and to BERT's, on texts made to break tokenizers."""

import random

import pytest

from vljax.data import tokenizers

pytestmark = pytest.mark.parity

PARTS = [
  "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "👍🏽", "e\u0301", "a\u0308\u0323", "İ", "ı", "I", "ß", "ſ", "ﬁ", "\u212a", "שלום",
  "مرحبا", "\u202eabc", "\u200b", "\ufeff", "\u00ad", "\u2028", "\x00", "\x07", "\x1b[0m", "\t", "\n\n",
  "\u00a0", "\u3000", "&amp;", "&amp;amp;lt;", "&#128054;", "&nbsp;", "&notanentity;", "can't", "CAN'T",
  "we’ll", "I'm", "they've", "'S", "''d", "½", "²", "٣", "१२", "Ⅷ", "10,000.5", "日本語", "한국어", "ไทย", "नमस्ते",
  "Ελλάδα", "Ă©", "â€œquotesâ€", "schÃ¶n", "<|startoftext|>", "<br/>", "</w>", "_", "__init__", "@user", "#tag",
  "...", "?!", "$5", "—", "a" * 90, "\U000e0041", "\ufffd",
]  # fmt: skip


@pytest.fixture(scope="module")
def theirs():
  torch = pytest.importorskip("torch")
  if not hasattr(torch.ops.torchvision, "nms"):
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
      library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
  return pytest.importorskip("open_clip").SimpleTokenizer()


def texts(count: int) -> list[str]:
  rng = random.Random(0)
  made = []
  for _ in range(count):
    pieces = [rng.choice(PARTS) if rng.random() < 0.6 else _random_code_points(rng) for _ in range(rng.randint(0, 8))]
    made.append(rng.choice(["", " ", " "]).join(pieces))
  return made


def _random_code_points(rng: random.Random) -> str:
  top = rng.choice([0x80, 0x250, 0x3000, 0x10000, 0x20000, 0x110000])
  points = (rng.randrange(top) for _ in range(rng.randint(1, 6)))
  return "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)


def test_ids_equal_open_clip(theirs):
  ours = tokenizers.build("clip_bpe")
  for text in texts(2000):
    assert ours(text)[0].tolist() == theirs(text)[0].tolist(), ascii(text)
    assert ours.encode(text)[1:-1] == theirs.encode(text), ascii(text)


def test_ids_equal_open_clip_with_case(theirs):
  open_clip = pytest.importorskip("open_clip")
  whole = open_clip.SimpleTokenizer(clean="whitespace")
  ours = tokenizers.build("clip_bpe", clean="whitespace")
  for text in texts(300):
    assert ours(text)[0].tolist() == whole(text)[0].tolist(), ascii(text)


def test_decoded_texts_equal_open_clip(theirs):
  ours = tokenizers.build("clip_bpe")
  for text in texts(300):
    assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text)).strip(), ascii(text)


def test_ids_equal_bert(data_dir):
  transformers = pytest.importorskip("transformers")
  theirs = transformers.BertTokenizer(str(data_dir / "tokenizers/bert_base_uncased_vocab.txt"))
  ours = tokenizers.build("wordpiece", path=data_dir / "tokenizers/bert_base_uncased_vocab.txt", length=200)
  for text in texts(300):
    assert ours.encode(text) == theirs(text)["input_ids"], ascii(text)
