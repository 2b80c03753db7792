"""Tokenizer files as transformers reads them."""

import gzip
import json
from typing import Any

from etils import epath

from vljax.data import tokenizers
from vljax.data.tokenizers import HfJson, byte_bpe, cleaning, clip_bpe

SPIECE, TOKENIZER_CONFIG, TOKENS = "spiece.model", "tokenizer_config.json", "special_tokens_map.json"
END, GEMMA_END = "</s>", "<eos>"
FAST = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""The classes whose texts are read by tokenizer.json alone."""

SIGLIPS = ("Siglip", "Gemma")
"""What the names of the classes of SigLIP and SigLIP 2 begin with."""


def save(folder: epath.Path, tokenizer: tokenizers.Tokenizer, *, ended: bool) -> list[str]:
  """Write CLIP's tokenizer as `vocab.json`, `merges.txt` and their configs, BERT's as `vocab.txt` and its config.

  A `tokenizer.json` is written as it is, with SigLIP's cleaning where the tokenizer has one, the names of its special
  tokens into the config beside it; SigLIP's sentencepiece model as `spiece.model` and its config.

  Args:
    ended: whether a `tokenizer.json` ends every text, as a text tower wants it; a language model goes on with them.

  Returns what was left out, in sentences.

  Raises:
    ValueError: transformers has no class for this kind of tokenizer, or its files no token that pads texts.
  """
  write = lambda name, content: (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n")
  if isinstance(tokenizer, tokenizers.HfJson):
    pad = _pad(folder, tokenizer)
    (folder / tokenizer.file).write_bytes(tokenizer.standalone(ended=ended))
    # A language model's piece 0 may be a letter, which transformers would cut out of texts if it padded them.
    named = pad if ended or tokenizer.pad_id else None
    ends = dict(eos_token=tokenizer.piece(tokenizer.eos_id), bos_token=tokenizer.bos, pad_token=named)
    config = dict(tokenizer_class=FAST[0], model_max_length=tokenizer.length)
    write(TOKENIZER_CONFIG, config | {key: name for key, name in ends.items() if name})
    lost = tokenizer.clean and not cleaning.normalizers_of(tokenizer.clean)
    return [f"{folder / tokenizer.file} does not hold the cleaning {tokenizer.clean!r}"] if lost else []
  if isinstance(tokenizer, tokenizers.SentencePiece) and tokenizer.clean == "siglip":
    ends = dict(eos_token=tokenizer.piece(tokenizer.eos_id), pad_token=_pad(folder, tokenizer))
    (folder / SPIECE).write_bytes(tokenizer.vocabulary)
    write(TOKENIZER_CONFIG, dict(tokenizer_class="SiglipTokenizer", model_max_length=tokenizer.length, **ends))
    return []
  if isinstance(tokenizer, tokenizers.WordPiece):
    (folder / tokenizer.file).write_bytes(tokenizer.vocabulary)
    options = dict(model_max_length=tokenizer.length, do_lower_case=tokenizer.lower)
    write(TOKENIZER_CONFIG, dict(tokenizer_class="BertTokenizer", **options))
    return []
  if not isinstance(tokenizer, tokenizers.ClipBpe):
    raise ValueError(
      f"{folder}: no files for a tokenizer of kind {tokenizer.kind!r}; legal: clip_bpe, hf_json, wordpiece, and "
      "sentencepiece with clean = 'siglip'"
    )
  data = tokenizer.vocabulary
  text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
  merges = text.decode().split("\n")[1 : clip_bpe.MERGES + 1]
  chars = clip_bpe.byte_chars()
  pieces = [*chars, *(f"{c}</w>" for c in chars), *("".join(m.split()) for m in merges), *clip_bpe.OPENAI_SPECIALS]
  start, end = clip_bpe.OPENAI_SPECIALS
  tokens = dict(bos_token=start, eos_token=end, pad_token=end, unk_token=end)
  config = dict(tokenizer_class="CLIPTokenizer", model_max_length=tokenizer.length, do_lower_case=True, **tokens)
  write("vocab.json", {piece: i for i, piece in enumerate(pieces)})
  write(TOKENIZER_CONFIG, config)
  write(TOKENS, tokens)
  (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
  lost = tokenizer.clean != "lower"
  return [f"{folder} does not hold the cleaning {tokenizer.clean!r}: CLIPTokenizer lowers the case"] if lost else []


def _pad(folder: epath.Path, tokenizer: HfJson | tokenizers.SentencePiece) -> str:
  if tokenizer.pad_id >= tokenizer.pieces:
    raise ValueError(
      f"{folder}: pad_id = {tokenizer.pad_id} is {tokenizer.added[tokenizer.pad_id - tokenizer.pieces]!r}, which the "
      f"vocabulary itself lacks; legal: 0 to {tokenizer.pieces - 1}"
    )
  return tokenizer.piece(tokenizer.pad_id)


def find(folder: epath.Path, length: int, notes: list[str]) -> dict[str, Any]:
  """The options of a language model's tokenizer, as `tokenizers.build` takes them; without its files none, and a note.

  That is tokenizer.json, tokenizer.model, or vocab.json with merges.txt; the files beside it name special tokens.

  Raises:
    ValueError: a file is broken.
  """
  said = _said(folder)
  ends = {short: said[f"{short}_token"] for short in ("eos", "bos") if said.get(f"{short}_token")}
  if (folder / HfJson.file).exists():
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


def siglip(folder: epath.Path, length: int, notes: list[str]) -> dict[str, Any]:
  """The options of the tokenizer in a SigLIP's folder; without its files none, and a note.

  Its files' names of special tokens go first. What they leave out is as published: SigLIP ends texts with `</s>`,
  pads with it and cleans texts as SiglipTokenizer does; SigLIP 2 has Gemma's pieces, ends with `<eos>`, pads with
  `<pad>` and lowers the case. A PreTrainedTokenizerFast cleans texts by its tokenizer.json alone; how other classes do
  is not known here, so that texts are left as they are, with a note.

  Raises:
    ValueError: a file is broken, or asks for a cleaning that vljax does not know.
  """
  said = _said(folder)
  kind = said.get("tokenizer_class", SIGLIPS[0])
  usual = str(kind).startswith(SIGLIPS)
  if (folder / HfJson.file).exists():
    found = pieces_json(folder, length, siglip=usual)
    rule = "siglip2" if found["eos"] == GEMMA_END else "siglip"
  elif (folder / SPIECE).exists():
    found = dict(kind="sentencepiece", path=str(folder / SPIECE), length=length)
    pad = said.get("pad_token", END)
    try:
      found["pad_id"] = tokenizers.build(**found).token_id(pad)
    except ValueError as error:
      by = _source(folder, "pad_token", "SigLIP")
      raise ValueError(f"{folder / SPIECE}, padded with {pad!r}, the pad_token of {by}: {error}") from error
    rule = "siglip"
  else:
    notes.append(f"{folder} brings neither {HfJson.file} nor {SPIECE}: texts must come as ids")
    return {}
  if not usual:
    if not str(kind).startswith(FAST):
      file = folder / TOKENIZER_CONFIG
      notes.append(f"{file}: tokenizer_class = {kind!r}, whose cleaning vljax does not know: texts are not cleaned")
    return found
  if rule == "siglip" and said.get("do_lower_case", True) is not True:
    raise ValueError(f"{folder / TOKENIZER_CONFIG}: do_lower_case = {said['do_lower_case']!r}; legal: true")
  return found | {"clean": rule}


def pieces_json(folder: epath.Path, length: int, *, siglip: bool) -> dict[str, Any]:
  """The options of a folder's tokenizer.json: its end and its padding by the files beside it, by itself, or as usual.

  Args:
    siglip: whether texts are usually padded with their end, unless it is Gemma's.

  Raises:
    ValueError: a file is broken, or names a token for the end or for padding that there is not.
  """
  file, said = folder / HfJson.file, _said(folder)
  content = _json(file)
  try:
    vocabulary = content["model"]["vocab"]
    ids = {name: i for i, (name, _) in enumerate(vocabulary)} if isinstance(vocabulary, list) else dict(vocabulary)
    ids |= {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
    padding = (content.get("padding") or {}).get("pad_token")
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{file} is no tokenizer.json: {type(error).__name__}: {error}") from error
  end = said.get("eos_token") or (GEMMA_END if GEMMA_END in ids else END if siglip and END in ids else None)
  pad = said.get("pad_token") or padding or (END if siglip and end == END else None)
  for key, name in (("eos_token", end), ("pad_token", pad)):
    if name is not None and name not in ids:
      raise ValueError(f"{file} has no token {name!r}, the {key} of {_source(folder, key, 'its padding')}")
  return dict(kind=HfJson.kind, path=str(file), length=length, eos=end, pad_id=ids.get(pad, 0))


def _said(folder: epath.Path) -> dict[str, Any]:
  """What tokenizer_config.json says, and special_tokens_map.json where it is silent; tokens by name.

  Raises:
    ValueError: a file is broken, or what it says of the end, the begin or the padding is no name of a token.
  """
  said = {}
  for file in (folder / TOKENS, folder / TOKENIZER_CONFIG):
    for key, value in (_json(file) if file.exists() else {}).items():
      name = value["content"] if isinstance(value, dict) and "content" in value else value
      if key in ("eos_token", "bos_token", "pad_token") and not isinstance(name, str | None):
        raise ValueError(f"{file}: {key} = {value!r}; legal: the name of a token, or an object with it as content")
      said |= {} if name is None else {key: name}
  return said


def _source(folder: epath.Path, key: str, otherwise: str) -> str:
  """Which of the files that `_said` reads says a key, for errors."""
  files = [folder / name for name in (TOKENIZER_CONFIG, TOKENS)]
  return next((file.name for file in files if file.exists() and _json(file).get(key) is not None), otherwise)


def _json(file: epath.Path) -> dict[str, Any]:
  try:
    return dict(json.loads(file.read_text()))
  except (ValueError, TypeError) as error:
    raise ValueError(f"{file} is not a JSON object: {error}") from error
