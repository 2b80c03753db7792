"""Evaluate a Flamingo by examples in its prompt; what was asked, shown and answered is written beside the numbers.

python launch/fewshot.py --model=runs/flamingo --to=runs/fewshot --shots=0,4 --most=8 \\
  --support='pairs:DATA/flickr8k?table=captions.jsonl&images=images_128.tar&holdout=500&split=train' \\
  --source='pairs:DATA/flickr8k?table=captions.jsonl&images=images_128.tar&holdout=500&split=val'
python launch/fewshot.py --model=runs/flamingo --to=runs/fewshot --task=question --answer=answer --measure=exact \\
  --support=TRAIN --source=TEST --nearest=runs/lit_flickr8k
"""

import argparse
import json
import sys

from etils import epath

from vljax import hub, program
from vljax.data import sources
from vljax.evaluate import fewshot, templates
from vljax.evaluate.support import SIZE, AtRandom, Examples, Nearest
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
  parser.add_argument("--nearest", help="a model whose picture features choose the nearest examples (RICES)")
  parser.add_argument("--permutations", type=int, default=1, help="options: orders of the examples to average over")
  parser.add_argument("--most", type=int, default=1024, help="how many are asked at most, drawn at random")
  parser.add_argument("--most_support", type=int, default=SIZE, help="how many can be shown at most, drawn at random")
  parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
  parser.add_argument("--max_tokens", type=int, default=32, help="of a text")
  parser.add_argument("--beams", type=int, default=3, help="the best of so many texts kept in sight")
  parser.add_argument("--batch", type=int, default=8, help="prompts per call")
  args = parser.parse_args(argv)
  bundle = hub.load(args.model)
  if not isinstance(bundle, FlamingoBundle):
    raise ValueError(f"{args.model} is no Flamingo; legal: a workdir of the recipe flamingo")
  template = templates.template(args.task)
  open_ = lambda uri, most: Examples(sources.open(uri), args.answer, template.fields).subset(most, args.seed)
  queries, support = open_(args.source, args.most), open_(args.support, args.most_support)
  if args.nearest:
    judge = hub.load(args.nearest)
    choose = Nearest(queries.encode(judge.encode_image), support.encode(judge.encode_image))
  else:
    choose = AtRandom(len(support), args.seed)
  told = {"model": str(args.model), "max_tokens": args.max_tokens, "beams": args.beams, "nearest": args.nearest}
  write = lambda prompts: bundle.generate_all(prompts, args.max_tokens, beams=args.beams, stop="\n")
  for shots in map(int, args.shots.split(",")):
    asked = template, queries, support, choose
    if args.options:
      options, orders = args.options.split("|"), dict(permutations=args.permutations, seed=args.seed)
      found = fewshot.close_ended(bundle.score, *asked, options, shots=shots, settings=told, **orders)
    else:
      found = fewshot.open_ended(write, *asked, shots=shots, measure=args.measure, batch=args.batch, settings=told)
    found.write(epath.Path(args.to) / f"shots_{shots}.jsonl")
    print(json.dumps({"shots": shots, **found.metrics}), flush=True)
  return 0


if __name__ == "__main__":
  sys.exit(program.run(main))
