"""A dialogue with a model that goes on with texts: its turns so far are the prompt of the next one."""

from collections.abc import Iterator
from typing import Any

from etils import epath

from vljax.data import video
from vljax.evaluate import templates
from vljax.flamingo import FlamingoBundle
from vljax.language import LanguageBundle

NAMES = ("User", "Flamingo")


def part(word: str) -> Any:
  """A word of a command: the file that it names, as a picture, or as a clip if it is animated, else itself.

  Raises:
    ValueError: a file that is no picture.
  """
  if not word.strip() or len(word) > 1000 or "\n" in word or not _is_file(word):
    return word
  data = epath.Path(word).read_bytes()
  try:
    frames = video.animation(data)
  except ValueError as error:
    raise ValueError(f"{word}: {error}") from error
  return data if frames is None else frames


def _is_file(word: str) -> bool:
  try:
    return epath.Path(word).is_file()
  except (KeyError, ImportError, ValueError):  # URLs of which epath knows no file system, or has none installed
    return False


class Chat:
  """Turns of a user, each answered by the model; pictures stay in sight of all later turns."""

  def __init__(self, bundle: LanguageBundle):
    self.bundle = bundle
    self.turns: list[tuple[list[Any] | str, str | None]] = []
    self.shown: list[Any] = []

  def show(self, medium: Any) -> None:
    """Puts a picture or clip before the next words.

    Raises:
      ValueError: the model sees none.
    """
    if not isinstance(self.bundle, FlamingoBundle):
      raise ValueError("this model reads texts only; a Flamingo looks at pictures")
    self.shown.append(medium)

  def say(self, words: str, max_tokens: int = 64, **options: Any) -> Iterator[str]:
    """The pieces of the answer as they come, up to the end of its line; `options` as of `generate`."""
    turns = [*self.turns, ([*self.shown, words] if self.shown else words, None)]
    prompt = templates.dialogue(turns, names=NAMES)
    answer = ""
    for piece in self._pieces(prompt, max_tokens, options):
      answer += piece
      yield piece
    self.turns.append((turns[-1][0], answer.strip()))
    self.shown = []

  def _pieces(self, prompt: list[Any], max_tokens: int, options: dict[str, Any]) -> Iterator[str]:
    single = prompt[0] if len(prompt) == 1 else prompt
    stop = ("\n", f"{NAMES[0]}:")
    if options.get("beams", 1) > 1:
      yield self.bundle.generate(single, max_tokens, stop=stop, **options)
    else:
      yield from self.bundle.generate(single, max_tokens, stop=stop, stream=True, **options)
