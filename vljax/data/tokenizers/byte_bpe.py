"""Byte-level BPE as GPT-2 has it (Radford et al. 2019), from its vocabulary and merges to a `tokenizer.json`."""

from collections.abc import Callable, Mapping, Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from vljax import config

SPLITS: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
  "gpt2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
  "digits": lambda: pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
  ),
}
"""How a text falls into words before bytes are merged: as in GPT-2, or so with each digit alone (SmolLM)."""


def tokenizer_json(
  vocabulary: Mapping[str, int],
  merges: Sequence[tuple[str, str]],
  *,
  split: str = "gpt2",
  begin: str | None = None,
  special: Sequence[str] = (),
) -> bytes:
  """The content of a `tokenizer.json`, which `HfJson` reads.

  Args:
    split: a key of SPLITS.
    begin: the token that `encode` puts before each text.
    special: tokens of the vocabulary that are found whole in a text and left out of decoded ones.

  Raises:
    ValueError: an unknown split, a merge or a special token that the vocabulary lacks.
  """
  for name in (*special, *([begin] if begin else [])):
    if name not in vocabulary:
      raise ValueError(f"the vocabulary of {len(vocabulary)} pieces lacks the special token {name!r}")
  try:
    core = tokenizers.Tokenizer(models.BPE(dict(vocabulary), list(merges)))
  except Exception as error:  # the package raises bare Exception
    raise ValueError(f"no byte-level BPE of {len(vocabulary)} pieces and {len(merges)} merges: {error}") from error
  core.pre_tokenizer = config.choose("split of byte-level BPE", split, SPLITS)()
  core.decoder = decoders.ByteLevel()
  core.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in special])
  if begin:
    core.post_processor = processors.TemplateProcessing(
      single=f"{begin} $A", special_tokens=[(begin, vocabulary[begin])]
    )
  return core.to_str().encode()
