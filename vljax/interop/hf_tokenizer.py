"""Tokenizer files as transformers reads them."""

import gzip
import json
from typing import Any

from etils import epath

from vljax.data import tokenizers
from vljax.data.tokenizers import byte_bpe, clip_bpe

SPECIALS = ("<|startoftext|>", "<|endoftext|>")
"""What OpenAI and transformers call the two ids that open_clip calls <start_of_text> and <end_of_text>."""


def save(folder: epath.Path, tokenizer: tokenizers.Tokenizer) -> None:
  """Write CLIP's tokenizer as `vocab.json`, `merges.txt` and their configs, BERT's as `vocab.txt` and its config.

  A `tokenizer.json` is written as it is, the names of its special tokens into the config beside it.

  Raises:
    ValueError: transformers has no class for this kind of tokenizer.
  """
  write = lambda name, content: (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n")
  if isinstance(tokenizer, tokenizers.HfJson):
    (folder / tokenizer.file).write_bytes(tokenizer.vocabulary)
    ends = dict(eos_token=tokenizer.eos, bos_token=tokenizer.bos)
    config = dict(tokenizer_class="PreTrainedTokenizerFast", model_max_length=tokenizer.length)
    write("tokenizer_config.json", config | {key: name for key, name in ends.items() if name})
    return
  if isinstance(tokenizer, tokenizers.WordPiece):
    (folder / tokenizer.file).write_bytes(tokenizer.vocabulary)
    options = dict(model_max_length=tokenizer.length, do_lower_case=tokenizer.lower)
    write("tokenizer_config.json", dict(tokenizer_class="BertTokenizer", **options))
    return
  if not isinstance(tokenizer, tokenizers.ClipBpe):
    raise ValueError(
      f"{folder}: no files for a tokenizer of kind {tokenizer.kind!r}; legal: clip_bpe, hf_json, wordpiece"
    )
  data = tokenizer.vocabulary
  text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
  merges = text.decode().split("\n")[1 : clip_bpe.MERGES + 1]
  chars = clip_bpe.byte_chars()
  pieces = [*chars, *(f"{c}</w>" for c in chars), *("".join(m.split()) for m in merges), *SPECIALS]
  start, end = SPECIALS
  tokens = dict(bos_token=start, eos_token=end, pad_token=end, unk_token=end)
  config = dict(tokenizer_class="CLIPTokenizer", model_max_length=tokenizer.length, do_lower_case=True, **tokens)
  write("vocab.json", {piece: i for i, piece in enumerate(pieces)})
  write("tokenizer_config.json", config)
  write("special_tokens_map.json", tokens)
  (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")


def find(folder: epath.Path, length: int, notes: list[str]) -> dict[str, Any]:
  """The options of a language model's tokenizer, as `tokenizers.build` takes them; without its files none, and a note.

  That is tokenizer.json, tokenizer.model, or vocab.json with merges.txt; tokenizer_config.json names special tokens.

  Raises:
    ValueError: a file is broken.
  """
  said = _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
  name = lambda key: value.get("content") if isinstance(value := said.get(key), dict) else value
  ends = {short: name(f"{short}_token") for short in ("eos", "bos") if name(f"{short}_token")}
  if (folder / "tokenizer.json").exists():
    return dict(kind="hf_json", path=str(folder), length=length, **ends)
  if (folder / "tokenizer.model").exists():
    return dict(kind="sentencepiece", path=str(folder), length=length, bos=said.get("add_bos_token", True))
  if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
    lines = (folder / "merges.txt").read_text().splitlines()
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    begin = ends.get("bos") if said.get("add_bos_token") else None
    vocabulary, special = _json(folder / "vocab.json"), sorted(set(ends.values()))
    content = byte_bpe.tokenizer_json(vocabulary, merges, begin=begin, special=special)
    return dict(kind="hf_json", content=content, length=length, **ends)
  notes.append(f"{folder} holds no tokenizer files: texts must come as ids")
  return {}


def _json(file: epath.Path) -> dict[str, Any]:
  try:
    return dict(json.loads(file.read_text()))
  except (ValueError, TypeError) as error:
    raise ValueError(f"{file} is not a JSON object: {error}") from error
