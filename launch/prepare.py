"""Writes any source as array_record shards that are a TFDS directory as well.

python launch/prepare.py --from 'pairs:DIR?images=images.tar' --to DATA/my_pairs

DATA/my_pairs/1.0.0 can then be read as array_record:DATA/my_pairs/1.0.0 and as tfds:my_pairs?data_dir=DATA.
"""

import argparse
import sys

from absl import logging

from vljax import prepare, program


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--from", dest="source", required=True, metavar="SOURCE", help="kind:path?option=value&...")
  parser.add_argument("--to", required=True, metavar="DIR", help="folder; its last part is the data set's name")
  parser.add_argument("--shards", type=int, help="number of files; default: one for 5,000 examples")
  parser.add_argument("--workers", type=int, default=1, help="processes that write shards (default: 1)")
  parser.add_argument("--part", default="train", help="name of the split in TFDS (default: train)")
  parser.add_argument(
    "--max_broken", type=float, default=0.01, help="share of unreadable rows allowed (default: 0.01)"
  )
  flags = parser.parse_args(argv)
  logging.set_verbosity(logging.INFO)
  result = prepare.prepare(
    flags.source,
    flags.to,
    shards=flags.shards,
    workers=flags.workers,
    part=flags.part,
    max_broken=flags.max_broken,
  )
  state = "was complete already" if result.done else "written"
  print(f"{result.folder}: {state}, {result.count} examples in {result.shards} shards, {result.broken} rows left out")
  print("open it as\n  " + "\n  ".join(result.uris))
  return 0


if __name__ == "__main__":
  sys.exit(program.run(main))
