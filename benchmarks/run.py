"""Runs benchmarks by name, prints their tables, writes all numbers to one JSON file.

`python -m benchmarks.run [NAME ...] [--repeats 7] [--out runs/bench.json]`; without names, all of them.
"""

import argparse
import dataclasses
import datetime
import importlib
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import machine
from benchmarks.timing import Result

NAMES = (
  "clip_step", "encode_image", "attention", "media_attention", "resampler", "nfnet", "contrastive_loss", "augment",
  "loop", "loader",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
  parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.split("\n")[0])
  parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
  parser.add_argument("--repeats", type=int, default=7, help="rounds that count; the median is reported")
  parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/bench.json"))
  options = parser.parse_args(arguments)
  if unknown := set(options.names) - set(NAMES):
    parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; legal: {', '.join(NAMES)}")
  facts = machine.describe()
  print("\n".join(f"{key}: {value}" for key, value in facts.items()))
  results = {}
  for name in options.names or NAMES:
    result = importlib.import_module(f"benchmarks.{name}").run(options.repeats)
    results[name] = dataclasses.asdict(result) if isinstance(result, Result) else dict(result)
    print(f"\n{render(name, results[name])}", flush=True)
    write(options.out, facts, results, options.repeats)
  print(f"\nwrote {options.out}")
  return 0


def render(name: str, result: Mapping[str, Any]) -> str:
  """A Markdown table with its title, goal and notes, fit for the results page."""
  rows = result.get("rows") or [{k: v for k, v in result.items() if k not in ("title", "goal", "notes")}]
  head = f"{result.get('title', name)}" + (f" (goal: {result['goal']})" if result.get("goal") else "")
  return "\n".join([f"### {head}", "", *table(rows), *(f"\n{note}" for note in result.get("notes", ()))])


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """The lines of a Markdown table whose columns are as wide as they need to be."""
  cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
  widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
  line = lambda values: "| " + " | ".join(v.ljust(w) for v, w in zip(values, widths, strict=True)) + " |"
  return [line(cells[0]), line(["-" * w for w in widths]), *map(line, cells[1:])]


def write(path: pathlib.Path, facts: Mapping[str, Any], results: Mapping[str, Any], repeats: int) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
  whole = {"date": when, "machine": facts, "repeats": repeats, "results": results}
  path.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
  sys.exit(main())
