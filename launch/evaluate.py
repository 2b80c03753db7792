"""Evaluate any checkpoint that the hub opens.

python launch/evaluate.py --model=runs/quickstart
python launch/evaluate.py --model=openai:ViT-B-32 --kind=zeroshot --source=folder:DIR --names=cifar10
python launch/evaluate.py --model=openai:ViT-B-32 --kind=retrieval --source=jsonl:captions.jsonl
python launch/evaluate.py --model=openai:ViT-B-32 --kind=probe --gallery=folder:TRAIN --source=folder:TEST
"""

import argparse
import json
import sys

from vljax import config, hub, program
from vljax.evaluate import prompts


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", required=True, help="a workdir, a published checkpoint, or a published name")
  parser.add_argument("--kind", default="retrieval", help="retrieval, zeroshot, knn or probe (logistic regression)")
  parser.add_argument("--source", help="kind:path?option=value; a workdir's own evaluations if absent")
  parser.add_argument("--gallery", help="knn, probe: the labelled source that they learn from")
  parser.add_argument("--names", help="zeroshot: whose class names stand in the prompts; the source's own if absent")
  parser.add_argument(
    "--templates", help="zeroshot: a set of prompts, whose mean is taken; those of the names if absent"
  )
  parser.add_argument("--batch", type=int, default=64, help="examples per call")
  args = parser.parse_args(argv)
  bundle = hub.load(args.model)
  gallery = lambda source: bundle.gallery(source, args.batch)
  model = bundle.predict, bundle.params

  def zeroshot():
    asked = gallery(args.source)
    names = prompts.names_for(asked.source.classes or (), args.names) if args.names else None
    templates = prompts.templates(args.templates) if args.templates else prompts.usual(args.names)
    return asked.zeroshot(*model, templates, names)

  def labelled():
    if args.gallery is None:
      raise ValueError(f"--kind={args.kind} learns from the labelled pictures of --gallery, which is not given")
    return gallery(args.gallery)

  kinds = {
    "retrieval": lambda: gallery(args.source).retrieval(*model),
    "zeroshot": zeroshot,
    "knn": lambda: gallery(args.source).knn(labelled(), *model),
    "probe": lambda: gallery(args.source).probe(labelled(), *model),
  }
  results = bundle.evaluate() if args.source is None else config.choose("kind", args.kind, kinds)()
  print(json.dumps(results, indent=2))
  return 0


if __name__ == "__main__":
  sys.exit(program.run(main))
