"""Train the runs of a paper's table, or print their commands, and set our numbers beside the paper's.

  python launch/sweep.py --sweep=configs/ablations/simclr.py:temperature --workdir=runs/temperature --print
  python launch/sweep.py --sweep=configs/ablations/simclr.py:temperature --workdir=runs/temperature --small

The same command again goes on where the last one stopped; finished runs are not run again. Runs may as well be started
by hand from the printed commands, wherever there are machines: --table collects what is there. --paper prints the
paper's numbers of all tables of a file, or of the one that is named, and takes no other flag.
"""

import argparse
import sys

from vljax import program, sweep


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--sweep", required=True, help="a file of configs/ablations and, after a colon, its table")
  parser.add_argument("--workdir", help="where the runs go, a folder each, and table.md, table.json")
  parser.add_argument("--config", help="a config file with arguments, in place of the table's own")
  parser.add_argument("--small", action="store_true", help="the table at a size for two CPU cores")
  parser.add_argument("--print", action="store_true", help="print the commands and do nothing")
  parser.add_argument("--table", action="store_true", help="write the table of what is there and train nothing")
  parser.add_argument("--paper", action="store_true", help="print the paper's numbers, of all tables if none is named")
  args, overrides = parser.parse_known_args(argv)
  if args.paper:
    further = [item for item in argv if item.startswith("--") and item.partition("=")[0] not in ("--sweep", "--paper")]
    if further:
      parser.error(f"--paper takes --sweep alone, not {' '.join(further)}")
    print(sweep.page(args.sweep), end="")
    return 0
  if not args.workdir:
    parser.error("the following arguments are required: --workdir")
  table = sweep.load(args.sweep, args.small)
  jobs = sweep.jobs(table, args.workdir, config=args.config, overrides=overrides)
  if args.print:
    print("\n".join(job.command for job in jobs))
    return 0
  for job in () if args.table else sweep.run(jobs):
    print(f"done        {job.row.name}", file=sys.stderr)
    sweep.write(table, jobs, args.workdir)
  paths = sweep.write(table, jobs, args.workdir)
  print(paths[0].read_text())
  return 0


if __name__ == "__main__":
  sys.exit(program.run(main))
