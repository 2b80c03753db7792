"""What a model that goes on with texts is asked, in the words of Flamingo (arXiv 2204.14198, appendix B.1).

A prompt is a list of texts, pictures, and lists of pictures, which are videos; "<EOC>", alone, ends a text.
"""

import dataclasses
import string
from collections.abc import Mapping, Sequence
from typing import Any

from vljax import config
from vljax.data.interleave import IMAGE

Prompt = list[Any]


@dataclasses.dataclass(frozen=True)
class Template:
  """The text that goes with the media of an example.

  Attributes:
    text: it ends with `{answer}`, what is asked for; fields in braces before it are what else an example says.
  """

  text: str

  def __post_init__(self):
    if not self.text.endswith("{answer}") or self.text.count("{answer}") > 1:
      raise ValueError(f"the template {self.text!r} must end with '{{answer}}' and hold it once")

  @property
  def fields(self) -> tuple[str, ...]:
    """The names of the fields that an example must have."""
    found = (name for _, name, _, _ in string.Formatter().parse(self.text) if name)
    return tuple(dict.fromkeys(name for name in found if name != "answer"))

  @property
  def gap(self) -> str:
    """What parts question and answer: a space, mostly."""
    return self.text[len(self._head) : -len("{answer}")]

  def asked(self, fields: Mapping[str, str]) -> str:
    """The text up to where the answer begins."""
    self._check(fields)
    return self._head.format(**fields)

  def shown(self, fields: Mapping[str, str], answer: str) -> str:
    """The text with its answer."""
    return self.asked(fields) + self.gap + answer

  @property
  def _head(self) -> str:
    return self.text.removesuffix("{answer}").rstrip()

  def _check(self, fields: Mapping[str, str]) -> None:
    for name in self.fields:
      if name not in fields:
        raise ValueError(config.unknown(f"field {name!r} of an example, which {self.text!r} needs", name, fields))


TEMPLATES = {
  "caption": Template("Output: {answer}"),
  "class": Template("Output: {answer}"),
  "question": Template("Question: {question} Answer: {answer}"),
  "hateful_memes": Template('is an image with written: "{text}" on it. Is it hateful? Answer: {answer}'),
  "rareact": Template("Caption: a person {answer}"),
}
"""Kind of task to its template."""

PREFIX = (
  "This is a talk between a person, User, and Flamingo, a helpful AI that can see. User shows pictures and asks about "
  "them; Flamingo answers truthfully and says so when it cannot tell."
)
"""How a dialogue begins; the paper's prefix (appendix B.1.6) has this form, in other words, and examples after it."""


def template(name: str) -> Template:
  """The template of a kind of task; a text that holds `{answer}` is one itself.

  Raises:
    ValueError: no such kind, with the nearest name.
  """
  return Template(name) if "{answer}" in name else config.choose("prompt template", name, TEMPLATES)


def dialogue(
  turns: Sequence[tuple[Sequence[Any] | str, str | None]],
  prefix: str = PREFIX,
  names: tuple[str, str] = ("User", "Flamingo"),
) -> Prompt:
  """The prompt of a dialogue, which ends where the model is to speak.

  Args:
    turns: what the user shows and says, texts and media, and what was answered: None in the last turn alone.
    prefix: said before all turns.

  Raises:
    ValueError: another turn than the last has no answer, or the last has one.
  """
  wrong = [i for i, (_, answer) in enumerate(turns) if (answer is None) != (i == len(turns) - 1)]
  if wrong or not turns:
    raise ValueError(f"turn {wrong[0] if wrong else 0} of {len(turns)}: the last turn, and no other, has no answer")
  user, model = names
  parts: Prompt = []
  text = prefix
  for said, answer in turns:
    text += f"\n{user}:"
    for part in [said] if isinstance(said, str) else said:
      if isinstance(part, str):
        text += f" {part}"
      else:
        parts += [text, part] if text else [part]
        text = ""
    text += f"\n{model}:" + ("" if answer is None else f" {answer}")
  return [*parts, text]


def render(prompt: Sequence[Any]) -> str:
  """A prompt as one text, media as `<image>` and `<video>`: for files and eyes."""
  name = lambda part: "<video>" if isinstance(part, list | tuple) else IMAGE
  return "".join(part if isinstance(part, str) else name(part) for part in prompt)
