"""Evaluate any checkpoint that the hub opens.

python launch/evaluate.py --model=runs/quickstart
python launch/evaluate.py --model=openai:ViT-B-32 --kind=zeroshot --source=folder:DIR --templates=imagenet_7
"""

import argparse
import json
import sys

from vljax import hub, program
from vljax.evaluate import prompts


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", required=True, help="a workdir, a published checkpoint, or a published name")
  parser.add_argument("--kind", default="retrieval", help="retrieval, zeroshot or knn")
  parser.add_argument("--source", help="kind:path?option=value; a workdir's own evaluations if absent")
  parser.add_argument("--gallery", help="knn: the labelled source whose nearest examples vote")
  parser.add_argument("--templates", default="photo", help="zeroshot: a set of vljax.evaluate.prompts")
  parser.add_argument("--batch", type=int, default=64, help="examples per call")
  args = parser.parse_args(argv)
  bundle = hub.load(args.model)
  if args.source is None:
    results = bundle.evaluate()
  elif args.kind == "knn":
    results = bundle.gallery(args.source, args.batch).knn(
      bundle.gallery(args.gallery or args.source, args.batch), bundle.predict, bundle.params
    )
  elif args.kind == "zeroshot":
    results = bundle.gallery(args.source, args.batch).zeroshot(
      bundle.predict, bundle.params, prompts.templates(args.templates)
    )
  else:
    results = bundle.gallery(args.source, args.batch).retrieval(bundle.predict, bundle.params)
  print(json.dumps(results, indent=2))
  return 0


if __name__ == "__main__":
  sys.exit(program.run(main))
