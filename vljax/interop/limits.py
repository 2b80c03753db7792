"""What a published format has no place for: the sentences of the errors that its writer raises."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from etils import epath

from vljax.data.tokenizers import ClipBpe, SentencePiece
from vljax.models import dual_encoder
from vljax.models.text import TextTransformer


class Limits:
  """Collects what does not fit, and raises it all at once.

  Args:
    name: of the format.
    path: that was to be written.
  """

  def __init__(self, name: str, path: epath.PathLike):
    self.name, self.path, self.found = name, path, []

  def towers(self, model: dual_encoder.DualEncoder, image: Sequence[str] = ("vit",)) -> None:
    """The kinds of towers that the format knows.

    Raises:
      ValueError: another tower, at once, since nothing more can be said of it.
    """
    for which, tower, legal in (("image", model.image, image), ("text", model.text, ("clip",))):
      name = dual_encoder.tower_of(tower)[0]
      if name not in legal:
        raise ValueError(f"{self.path}: the format {self.name} cannot hold the {which} tower {name!r}")

  def usual(self, tower: nn.Module, **fields: Any) -> None:
    """Fields of a tower that have only one value in the format."""
    what = "text" if isinstance(tower, TextTransformer) else "image"
    for name, value in fields.items():
      if getattr(tower, name) != value:
        self.add(f"{what}.{name} = {getattr(tower, name)!r}", f"{value!r}")

  def one_of(self, what: str, value: Any, legal: Mapping[Any, Any]) -> Any:
    """`legal[value]`, or None after noting that the format has no such thing."""
    if value not in legal:
      self.add(f"{what} = {value!r}", f"one of {', '.join(map(repr, legal))}")
    return legal.get(value)

  def tokenizer(self, tokenizer: Mapping[str, Any], *legal: str) -> None:
    """The kind of the tokenizer; having none is always fine."""
    if tokenizer.get("kind") not in (None, *legal):
      self._tokenizer(f"the tokenizer {tokenizer['kind']!r}", legal)

  def cleaning(self, tokenizer: Mapping[str, Any], of: type[ClipBpe | SentencePiece], *legal: str) -> None:
    """What a tokenizer of this class does to texts first."""
    rule = tokenizer.get("clean", of.clean)
    if tokenizer.get("kind") == of.kind and rule not in legal:
      self._tokenizer(f"the tokenizer {of.kind!r} with clean = {rule!r}", legal)

  def _tokenizer(self, found: str, legal: Sequence[str]) -> None:
    self.add(found, f"{' or '.join(map(repr, legal))}; launch/convert.py --drop_tokenizer leaves it out")

  def preprocess(self, found: Mapping[str, Any], only: Mapping[str, Any]) -> None:
    """Items of the preprocessing that have only one value in the format."""
    for name, value in only.items():
      if not same(found[name], value):
        self.add(f"preprocess.{name} = {found[name]!r}", f"{value!r}")

  def add(self, found: str, assumed: str) -> None:
    """Note one thing: what it is, and what the format's readers take it for."""
    self.found.append(f"{found} (its readers assume {assumed})")

  def close(self) -> None:
    """Raise a ValueError that names everything noted."""
    if self.found:
      raise ValueError(f"{self.path}: the format {self.name} cannot hold {'; '.join(self.found)}")


def largest_id_ends(text: TextTransformer) -> bool:
  """Whether the tower pools at the largest id, or at an end of text that is the largest id."""
  return text.pool == "argmax" or (text.pool == "eos" and text.eos_id == text.vocab - 1)


def same(a: Any, b: Any) -> bool:
  """Whether two settings agree, numbers to 1e-6."""
  if isinstance(b, str) or isinstance(a, str):
    return a == b
  return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=0, atol=1e-6))
