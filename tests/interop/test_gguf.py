"""GGUF files that a test writes by hand; tests/parity compares numbers with the `gguf` package and transformers."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vljax.data import tokenizers
from vljax.interop import gguf, gguf_reader
from vljax.interop.gguf_types import KINDS
from vljax.models import decoder

STRING, ARRAY, U32, F32, BOOL, I32 = 8, 9, 4, 6, 7, 5
NAMES = {kind.name: number for number, kind in KINDS.items()}


def string(text):
  data = text.encode()
  return struct.pack("<Q", len(data)) + data


def value(x):
  if isinstance(x, bool):
    return struct.pack("<I?", BOOL, x)
  if isinstance(x, int):
    return struct.pack("<II", U32, x)
  if isinstance(x, float):
    return struct.pack("<If", F32, x)
  if isinstance(x, str):
    return struct.pack("<I", STRING) + string(x)
  inner = STRING if isinstance(x[0], str) else I32
  items = b"".join(string(i) if inner == STRING else struct.pack("<i", i) for i in x)
  return struct.pack("<IIQ", ARRAY, inner, len(x)) + items


def file(metadata, tensors, version=3):
  """Bytes of a GGUF file; tensors: name -> (type's name, array of float32 or bytes, shape)."""
  head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
  head += b"".join(string(key) + value(x) for key, x in metadata.items())
  data = b""
  for name, (kind, content, shape) in tensors.items():
    data += bytes(-len(data) % 32)
    head += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], NAMES[kind], len(data))
    data += bytes(content)
  return head + bytes(-len(head) % 32) + data


PIECES = ["<|endoftext|>", "<s>", "</s>", *(chr(c) for c in range(97, 123)), "th", "Ġ"]
METADATA = {
  "general.architecture": "llama",
  "llama.block_count": 2,
  "llama.context_length": 32,
  "llama.embedding_length": 16,
  "llama.feed_forward_length": 24,
  "llama.attention.head_count": 4,
  "llama.attention.head_count_kv": 2,
  "llama.attention.layer_norm_rms_epsilon": 1e-5,
  "llama.rope.freq_base": 5000.0,
  "llama.rope.dimension_count": 4,
  "tokenizer.ggml.model": "gpt2",
  "tokenizer.ggml.pre": "smollm",
  "tokenizer.ggml.tokens": PIECES,
  "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(PIECES) - 3),
  "tokenizer.ggml.merges": ["t h"],
  "tokenizer.ggml.bos_token_id": 1,
  "tokenizer.ggml.eos_token_id": 2,
  "tokenizer.ggml.add_bos_token": True,
}


def tensors(seed=0):
  rng = np.random.default_rng(seed)
  shapes = {"token_embd": (len(PIECES), 16), "output_norm": (16,)}
  block = {
    "attn_norm": (16,), "ffn_norm": (16,), "attn_q": (16, 16), "attn_k": (8, 16), "attn_v": (8, 16),
    "attn_output": (16, 16), "ffn_gate": (24, 16), "ffn_up": (24, 16), "ffn_down": (16, 24),
  }  # fmt: skip
  shapes |= {f"blk.{i}.{name}": shape for i in range(2) for name, shape in block.items()}
  return {
    f"{name}.weight": ("F32", rng.normal(size=shape).astype("<f4").tobytes(), shape) for name, shape in shapes.items()
  }


@pytest.fixture
def write(tmp_path):
  """write(bytes) -> path."""

  def write(data):
    (tmp_path / "x.gguf").write_bytes(data)
    return tmp_path / "x.gguf"

  return write


def test_a_model_and_its_tokenizer(write):
  content = tensors()
  tower = gguf.load(write(file(METADATA, content)))
  model = decoder.build(**tower.config)
  assert (model.depth, model.heads, model.kv_heads, model.mlp, model.tied) == (2, 4, 2, 24, True)
  assert (model.rotary_base, model.length) == (5000.0, 32)
  read = lambda name: np.frombuffer(content[name][1], "<f4").reshape(content[name][2])
  block = tower.weights["lm"]["blocks"]
  np.testing.assert_array_equal(block["mlp"]["gate"]["kernel"][1], read("blk.1.ffn_gate.weight").T)
  # Rows 0, 1, 2, 3 of a head are in the file as 0, 2, 1, 3.
  query = read("blk.0.attn_q.weight").reshape(4, 4, 16)[:, [0, 2, 1, 3]]
  np.testing.assert_array_equal(block["attention"]["query"]["kernel"][0], query.transpose(2, 0, 1))
  words = tokenizers.build(**tower.tokenizer)
  assert words.encode("that")[:-1] == [1, PIECES.index("th"), PIECES.index("a"), PIECES.index("t")]
  assert words.plain("</s>") == [2]
  assert (words.eos_id, words.bos_id) == (2, 1)


def test_a_head_of_its_own_and_biases(write):
  extra = {"output.weight": ("F32", np.ones((len(PIECES), 16), "<f4").tobytes(), (len(PIECES), 16))}
  assert not decoder.build(**gguf.load(write(file(METADATA, {**tensors(), **extra}))).config).tied
  biases = {"blk.0.attn_q.bias": ("F32", np.ones(16, "<f4").tobytes(), (16,))}
  with pytest.raises(ValueError, match=r"the key 'blk.1.attn_q.bias' is missing"):
    gguf.load(write(file(METADATA, {**tensors(), **biases})))


def test_another_tokenizer_is_left_out_with_a_note(write):
  tower = gguf.load(write(file({**METADATA, "tokenizer.ggml.pre": "qwen2"}, tensors())))
  assert tower.tokenizer == {}
  assert "'qwen2', which vljax does not read" in tower.notes[0]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"general.architecture": "gpt2"}, "general.architecture = 'gpt2', which vljax has no model for; legal: 'llama'"),
    ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type = 'yarn'"),
    ({"llama.expert_count": 8}, "llama.expert_count = 8"),
    ({"llama.attention.head_count": 3}, "3 heads for a width of 16"),
    ({"llama.attention.head_count": "4"}, "is of type str; legal: int"),
    ({"llama.block_count": 3}, "the key 'blk.2.attn_norm.weight' is missing"),
    ({"llama.block_count": 1}, "the key 'blk.1.attn_norm.weight' is unknown"),
    ({"llama.feed_forward_length": 20}, "do not fit the model: blocks/mlp/down/kernel"),
    ({"tokenizer.ggml.eos_token_id": 99}, "special ids {'bos': 1, 'eos': 99}"),
    ({"tokenizer.ggml.merges": ["q h"]}, "no byte-level BPE"),
    ({"tokenizer.ggml.tokens": PIECES[:5]}, "5 tokens, 31 types"),
  ],
)
def test_another_model_is_refused(write, change, message):
  with pytest.raises(ValueError, match=message):
    gguf.load(write(file({**METADATA, **change}, tensors())))


def test_a_missing_key_is_named(write):
  metadata = {k: v for k, v in METADATA.items() if k != "llama.block_count"}
  with pytest.raises(ValueError, match="the key 'llama.block_count' is missing"):
    gguf.load(write(file(metadata, tensors())))


@pytest.mark.parametrize("name", [k.name for k in KINDS.values()])
def test_every_type_is_read(write, name):
  """What `decode` gives is held against the gguf package in tests/parity; here: shapes and dtype."""
  kind = KINDS[NAMES[name]]
  columns = kind.count * (8 if kind.count == 1 else 2)
  content = np.zeros((3, columns // kind.count * kind.size), np.uint8)
  found = gguf_reader.read(write(file({}, {"a": (name, content.tobytes(), (3, columns))}))).tensors["a"]
  assert found.array().shape == (3, columns)
  assert found.array().dtype == np.float32
  assert not found.array().any()


def test_a_file_that_is_none(write, tmp_path):
  with pytest.raises(FileNotFoundError, match="does not exist"):
    gguf_reader.read(tmp_path / "none.gguf")
  for data, message in (
    (b"", "it is empty"),
    (b"PK\x03\x04", "no GGUF file"),
    (file({}, {}, version=1), "GGUF of version 1; legal: 2, 3"),
    (file({"general.alignment": 0}, {}), "general.alignment = 0"),
    (file({}, {})[:20], "truncated or broken GGUF file, at byte 16 of 20"),
  ):
    with pytest.raises(ValueError, match=message):
      gguf_reader.read(write(data))


def test_what_lies_is_found_out(write):
  one = {"a": ("F32", np.ones(4, "<f4").tobytes(), (4,))}
  good = file({"k": [1, 2, 3]}, one)
  lies = {
    "more keys": good[:16] + struct.pack("<Q", 9) + good[24:],
    "more tensors": good[:8] + struct.pack("<Q", 2**60) + good[16:],
    "a long string": good[:24] + struct.pack("<Q", 2**63) + good[32:],
    "a long array": good.replace(struct.pack("<IIQ", ARRAY, I32, 3), struct.pack("<IIQ", ARRAY, I32, 2**61)),
    "an array of arrays": good.replace(struct.pack("<IIQ", ARRAY, I32, 3), struct.pack("<IIQ", ARRAY, ARRAY, 3)),
    "no such type of values": good.replace(struct.pack("<IIQ", ARRAY, I32, 3), struct.pack("<IIQ", 77, I32, 3)),
    "a large tensor": good.replace(struct.pack("<IQI", 1, 4, 0), struct.pack("<IQI", 1, 2**40, 0)),
    "many axes": good.replace(struct.pack("<IQI", 1, 4, 0), struct.pack("<IQI", 99, 4, 0)),
    "no such type of tensors": good.replace(struct.pack("<IQI", 1, 4, 0), struct.pack("<IQI", 1, 4, 39)),
    "half a block": good.replace(struct.pack("<IQI", 1, 4, 0), struct.pack("<IQI", 1, 4, 3)),
    "one name twice": file({}, {**one, "b": one["a"]}).replace(string("b"), string("a")),
  }
  for what, data in lies.items():
    assert data != good, what
    with pytest.raises(ValueError, match=r"x\.gguf: "):
      gguf_reader.read(write(data))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_raises_nothing_but_value_errors(tmp_path_factory, data):
  good = file({**METADATA, "tokenizer.ggml.tokens": ["a", "b"]}, {"a": ("F32", np.ones(4, "<f4").tobytes(), (4,))})
  damaged = bytearray(good[: data.draw(st.integers(1, len(good)))])
  for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
    damaged[at] = data.draw(st.integers(0, 255))
  path = tmp_path_factory.mktemp("gguf") / "x.gguf"
  path.write_bytes(bytes(damaged))
  try:
    found = gguf_reader.read(path)
    for tensor in found.tensors.values():
      tensor.array()
  except ValueError as raised:
    error = raised
  else:
    error = None
  assert error is None or "x.gguf" in str(error)
