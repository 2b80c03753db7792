"""Tell what a run will need before anything runs: memory per device, work per step. Needs no data and no devices.

  python launch/plan.py --config=configs/contrastive/clip.py:variant=ViT-L-14 --devices=256 --accelerator=v5p
  python launch/plan.py --config=configs/contrastive/clip.py:variant=ViT-H-14 --devices=64 --config.mesh.fsdp=8 --json

A run that cannot fit is refused, with the largest part and what would make it smaller.
"""

import argparse
import json
import sys

from vljax import config, plan, program


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", required=True, help="a config file, with its arguments after a colon")
  parser.add_argument("--devices", type=int, default=1, help="of the whole mesh")
  parser.add_argument("--accelerator", help=f"one of {', '.join(plan.ACCELERATORS)}")
  parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
  args, overrides = parser.parse_known_args(argv)
  found = plan.plan(config.load(args.config, overrides), args.devices, args.accelerator)
  print(json.dumps(found.to_json(), indent=2) if args.json else found.table())
  return 0


if __name__ == "__main__":
  sys.exit(program.run(main))
