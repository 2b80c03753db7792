"""Evaluate a Flamingo by examples in its prompt; what was asked, shown and answered is written beside the numbers.

python launch/fewshot.py --model=runs/flamingo --to=runs/fewshot --shots=0,4 --most=8 \\
  --support='pairs:DATA/flickr8k?table=captions.jsonl&images=images_128.tar&holdout=500&split=train' \\
  --source='pairs:DATA/flickr8k?table=captions.jsonl&images=images_128.tar&holdout=500&split=val'
python launch/fewshot.py --model=runs/flamingo --to=runs/fewshot --task=question --answer=answer --measure=exact \\
  --support=TRAIN --source=TEST --nearest=runs/lit_flickr8k
python launch/fewshot.py --model=runs/flamingo --to=runs/fewshot --task=class --answer=class --options='cat|dog' \\
  --support=TRAIN --source=TEST --per_class=32 --nearest=self
"""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from etils import epath

from vljax import hub, program
from vljax.data import sources
from vljax.evaluate import fewshot, templates
from vljax.evaluate.support import SIZE, AtRandom, Choose, Examples, Nearest, over_frames
from vljax.flamingo import FlamingoBundle


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", required=True, help="a workdir of the recipe flamingo")
  parser.add_argument("--source", required=True, help="kind:path?option=value of what is asked")
  parser.add_argument("--support", required=True, help="the source of the examples")
  parser.add_argument(
    "--to", required=True, help="a folder for shots_K.jsonl: settings, metrics, each prompt and answer"
  )
  parser.add_argument("--task", default="caption", help="caption, question, ... or a text that holds {answer}")
  parser.add_argument("--answer", default="captions", help="the field of the right answers")
  parser.add_argument(
    "--measure", default="captions", help="captions, vqa or exact: how texts are compared with answers"
  )
  parser.add_argument(
    "--options", help="answers to choose from by their likelihood, divided by |, in place of free text"
  )
  parser.add_argument("--shots", default="0,4,8,16,32", help="numbers of examples")
  parser.add_argument(
    "--nearest", help="a model whose picture features choose the nearest examples (RICES); self: the Flamingo's own"
  )
  parser.add_argument("--frames", type=int, help="of a video, the middle ones; default: pictures")
  parser.add_argument("--rate", type=float, help="video: frames per second, 3 if not given")
  parser.add_argument(
    "--fps", type=float, help="of videos that are lists of pictures or filmstrips, which do not say it"
  )
  parser.add_argument("--permutations", type=int, default=1, help="options: orders of the examples to average over")
  parser.add_argument("--most", type=int, default=1024, help="how many are asked at most, drawn at random")
  parser.add_argument("--most_support", type=int, default=SIZE, help="how many can be shown at most, drawn at random")
  parser.add_argument("--per_class", type=int, help="how many can be shown of each answer, in place of --most_support")
  parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
  parser.add_argument("--seeds", type=int, default=1, help="draws of examples, from --seed on: mean and deviation")
  parser.add_argument("--max_tokens", type=int, default=32, help="of a text")
  parser.add_argument("--beams", type=int, default=3, help="the best of so many texts kept in sight")
  parser.add_argument("--batch", type=int, default=8, help="prompts per call")
  args = parser.parse_args(argv)
  bundle = hub.load(args.model)
  if not isinstance(bundle, FlamingoBundle):
    raise ValueError(f"{args.model} is no Flamingo; legal: a workdir of the recipe flamingo")
  if args.nearest and args.seeds > 1:
    raise ValueError(
      f"--seeds={args.seeds} with --nearest; legal: one of them, as the nearest examples are always the same"
    )
  if args.seeds < 1:
    raise ValueError(f"--seeds={args.seeds}; legal: 1 or more")
  if args.frames is None and not (args.rate is args.fps is None):
    raise ValueError("--rate and --fps are of videos, whose number of frames is to be given; legal: with --frames")
  template = templates.template(args.task)
  if args.frames is None:
    steps, medium = [("decode",)], "image"
  else:
    rate = 3.0 if args.rate is None else args.rate
    steps, medium = [("clip", args.frames, rate, {"rule": "middle", "fps": args.fps})], "video"
  open_ = lambda uri: Examples(sources.open(uri), args.answer, template.fields, steps, medium)
  queries, support = open_(args.source).subset(args.most, args.seed), open_(args.support)
  if args.per_class is None:
    support = support.subset(args.most_support, args.seed)
  else:
    support = support.per_class(args.per_class, args.seed)
  if args.nearest:
    encode = _encoder(args.nearest, bundle)
    batch = 64 if args.frames is None else max(1, 64 // args.frames)
    choices = {args.seed: Nearest(queries.encode(encode, batch), support.encode(encode, batch))}
  else:
    choices = {seed: AtRandom(len(support), seed) for seed in range(args.seed, args.seed + args.seeds)}
  told = {"model": str(args.model), "max_tokens": args.max_tokens, "beams": args.beams, "nearest": args.nearest}
  write = lambda prompts: bundle.generate_all(prompts, args.max_tokens, beams=args.beams, stop="\n")

  def ask(shots: int, seed: int, choose: Choose) -> fewshot.Result:
    asked = template, queries, support, choose
    if args.options:
      options, orders = args.options.split("|"), dict(permutations=args.permutations, seed=seed)
      return fewshot.close_ended(bundle.score, *asked, options, shots=shots, settings=told, **orders)
    return fewshot.open_ended(write, *asked, shots=shots, measure=args.measure, batch=args.batch, settings=told)

  for shots in map(int, args.shots.split(",")):
    found = {seed: ask(shots, seed, choose) for seed, choose in choices.items()}
    for seed, result in found.items():
      result.write(epath.Path(args.to) / f"shots_{shots}{f'_seed_{seed}' if len(found) > 1 else ''}.jsonl")
    print(json.dumps({"shots": shots, **fewshot.average(list(found.values()))}), flush=True)
  return 0


def _encoder(nearest: str, bundle: FlamingoBundle) -> Callable[[list[Any]], Any]:
  """Features of lists of media by the model that --nearest names."""
  sees = bundle if nearest == "self" else hub.load(nearest)
  if isinstance(sees, FlamingoBundle):
    return sees.image_features
  if not hasattr(sees, "encode_image"):
    raise ValueError(f"--nearest={nearest}: that model encodes no pictures; legal: self, or a model that does")
  return over_frames(sees.encode_image)


if __name__ == "__main__":
  sys.exit(program.run(main))
