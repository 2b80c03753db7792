"""Write the features of a folder of pictures, or of any source, by any checkpoint that the hub opens.

python launch/encode.py --model=runs/quickstart --source=folder:PICTURES --to=features

Several processes share the shards; each takes all devices that it has.

With --level=tower and a config, the features of its frozen towers, which `features:DIR` then feeds to its training.
"""

import argparse
import json
import sys

import jax

from vljax import config, encode, hub, parallel, program


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument(
    "--model", required=True, help="a workdir, a published checkpoint or name, or a config (FILE.py:ARGS)"
  )
  parser.add_argument("--source", required=True, help="kind:path?option=value; a bare path is a folder of pictures")
  parser.add_argument("--to", required=True, help="the folder that gets the features")
  parser.add_argument("--shards", type=int, default=1, help="files to cut them into; one is the unit of resuming")
  parser.add_argument("--format", default="npy", help="npy or array_record")
  parser.add_argument("--batch", type=int, default=64, help="examples per call")
  parser.add_argument("--fsdp", type=int, default=1, help="devices that share one copy of the parameters")
  parser.add_argument("--level", default="joint", help="joint: unit vectors; tower: what the towers give before")
  parser.add_argument(
    "--max_broken", type=float, default=0.01, help="share of unreadable examples allowed (default: 0.01)"
  )
  args = parser.parse_args(argv)
  parallel.initialize()
  mesh = parallel.make(parallel.Mesh(fsdp=args.fsdp), jax.local_devices())
  source = args.source if ":" in args.source else f"folder:{args.source}"
  is_config = ".py" in args.model.partition(":")[0]
  bundle = hub.untrained(config.load(args.model, []), mesh) if is_config else hub.load(args.model, mesh=mesh)
  options = dict(
    shards=args.shards, format=args.format, batch=args.batch, level=args.level, max_broken=args.max_broken
  )
  header = encode.write(bundle, source, args.to, **options)
  print(json.dumps(header, indent=2))
  return 0


if __name__ == "__main__":
  sys.exit(program.run(main))
