"""Train a recipe.

  python launch/train.py --config=configs/contrastive/clip_quickstart.py --workdir=runs/quickstart
  python launch/train.py --config=configs/contrastive/clip_quickstart.py:steps=1000 --workdir=runs/long --config.seed=1

The same command again goes on where the last one stopped.
"""

import argparse
import sys

import jax

from vljax import config, experiment, program


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", required=True, help="a config file, with its arguments after a colon")
  parser.add_argument("--workdir", required=True, help="where checkpoints, metrics and the report go")
  parser.add_argument(
    "--preempted_status", type=int, default=0, help="exit status of a run that a signal stopped, once it is saved"
  )
  args, overrides = parser.parse_known_args(argv)
  raw = config.load(args.config, overrides)
  if not experiment.train(raw, args.workdir):
    return args.preempted_status
  if jax.process_index() == 0:
    print(experiment.next_steps(args.workdir, raw.recipe))
  return 0


if __name__ == "__main__":
  sys.exit(program.run(main))
