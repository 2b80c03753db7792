"""Tokenizer files as transformers has them, read and written; tests/parity compares their ids with transformers'."""

import json

from vljax.interop import hf_tokenizer


def in_json(folder, pieces, added=(), **files):
  """Words in a tokenizer.json of a folder, and JSON files beside it by their names without the ending."""
  model = dict(type="WordLevel", vocab={piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
  tokens = [dict(id=pieces.index(name), content=name, special=True) for name in added]
  content = dict(version="1.0", model=model, added_tokens=tokens, pre_tokenizer=dict(type="WhitespaceSplit"))
  folder.mkdir(exist_ok=True)
  for name, written in dict(tokenizer=content, **files).items():
    (folder / f"{name}.json").write_text(json.dumps(written))


def test_special_tokens_map_speaks_for_a_language_model_where_the_config_is_silent(tmp_path):
  tokens = dict(eos_token="<unk>", bos_token=dict(content="<s>"))
  in_json(tmp_path, ["<s>", "</s>", "<unk>"], tokenizer_config=dict(eos_token="</s>"), special_tokens_map=tokens)
  wanted = dict(kind="hf_json", path=str(tmp_path), length=8, eos="</s>", bos="<s>")
  assert hf_tokenizer.find(tmp_path, 8, []) == wanted
