"""IDEFICS, an open Flamingo (Laurençon et al. 2023, arXiv 2306.16527), with the prompts of its own processor."""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from vljax.data import interleave, tokenizers
from vljax.flamingo import FlamingoBundle, Part
from vljax.interop import idefics
from vljax.interop.language import find
from vljax.language import LanguageBundle
from vljax.models import flamingo
from vljax.recipes import clip

AROUND, TURN = "<fake_token_around_image>", "<end_of_utterance>"


class IdeficsBundle(FlamingoBundle):
  """An IDEFICS: `<image>` stands between two AROUND, which pictures side by side share, and ends no text before it.

  The part "<EOC>", alone, ends a turn of a dialogue where the vocabulary has a token for that, and a line elsewhere.
  """

  ends: ClassVar[tuple[str, ...]] = (*LanguageBundle.ends, TURN)

  def document(self, parts: Sequence[Part]) -> dict[str, Any]:
    """A prompt's `tokens` and `phi` [t], and its `media`.

    Raises:
      ValueError: a text spells the token of a picture, or the vocabulary has no such token.
    """
    words, text, media, after_picture = self.words, "", [], False
    for part in parts:
      if not isinstance(part, str):
        text += ("" if after_picture else AROUND) + interleave.IMAGE + AROUND
        media.append(part)
      elif part == interleave.CHUNK:
        text += "\n" if self.token_id(TURN) is None else TURN
      elif interleave.IMAGE in part or AROUND in part:
        raise ValueError(f"the text {part!r:.80} spells a picture; legal: the picture itself as a part of the prompt")
      else:
        text += part.strip(" ")
      after_picture = not isinstance(part, str)
    tokens = np.array([words.bos_id, *words.plain(text)], np.int32)
    return {"tokens": tokens, "phi": interleave.phi(tokens == words.token_id(interleave.IMAGE)), "media": media}


def is_idefics(source: epath.PathLike) -> bool:
  """Whether a folder or a published name holds an IDEFICS.

  Raises:
    FileNotFoundError: a published file is neither cached nor within reach.
  """
  place = find(source)
  return place is not None and idefics.is_idefics(place)


def load(source: epath.PathLike, dtype: str | None = None) -> IdeficsBundle:
  """An IDEFICS folder, or `hf:ORG/NAME`.

  Args:
    dtype: of weights and computation; None means float32 on CPUs and bfloat16 on accelerators.

  Raises:
    FileNotFoundError, ValueError: as `interop.idefics.load`.
  """
  found = idefics.load(find(source) or source)
  dtype = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
  model = flamingo.build_from(**found.config, shared=dict(dtype=dtype))
  params = jax.tree.map(lambda x: jnp.asarray(x, dtype), found.params)
  tokenizer = tokenizers.build(**found.tokenizer) if found.tokenizer else None
  said = found.preprocess
  rules = clip.Preprocess(
    normalize=(tuple(said["mean"]), tuple(said["std"])),
    interpolation=said["interpolation"],
    resize=said["resize_mode"],
  )
  return IdeficsBundle(model, params, found.config, tokenizer, tuple(found.notes), rules=rules)
