"""Ablations: the table of a paper as runs of one config, and our numbers beside the paper's.

A file of configs/ablations has `sweep(small)`, which returns table name to a dict with the keys of `Sweep`.
"""

import dataclasses
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import scipy.stats
from etils import epath

from vljax import config as config_lib
from vljax import experiment, recipes
from vljax.checkpoint import Metadata
from vljax.train import writers

TABLE = "table"
NOTHING = "–"
Train = Callable[[Any, epath.Path], bool]
Value = float | str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
  """A column of a table.

  Attributes:
    metric: the name in a run's metrics; None: only the paper has such a number.
    percent: the paper prints 100 times what the metric is.
  """

  metric: str | None
  percent: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A row of a table: one run.

  Attributes:
    name: as the paper calls it.
    arg: arguments of the config file, behind those of the sweep.
    overrides: dotted key of the config to value.
    paper: column to the paper's number, where it gives one.
  """

  name: str
  arg: str = ""
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  paper: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
  """A table of a paper.

  Attributes:
    title: what it shows.
    source: paper and table, and how our runs differ from its.
    config: of the runs, `path.py:arguments`.
    columns: heading to column.
    rows: of the table.
  """

  title: str
  source: str
  config: str
  columns: Mapping[str, Column]
  rows: tuple[Row, ...]

  def __post_init__(self):
    if not self.rows or not self.columns:
      raise ValueError(f"the sweep {self.title!r} needs rows and columns")
    folders = [folder_of(row.name) for row in self.rows]
    if len(set(folders)) < len(folders):
      raise ValueError(f"the rows of the sweep {self.title!r} must differ in letters and digits; found {folders}")
    for row in self.rows:
      for name in row.paper:
        config_lib.choose(f"column of row {row.name!r}", name, self.columns)


@dataclasses.dataclass(frozen=True)
class Job:
  """One run of a sweep: the row, the config with its overrides, and where it is trained."""

  row: Row
  spec: str
  overrides: tuple[str, ...]
  workdir: epath.Path

  @property
  def command(self) -> str:
    flags = [f"--config={self.spec}", f"--workdir={self.workdir}", *(f"--config.{item}" for item in self.overrides)]
    return shlex.join(["python", "launch/train.py", *flags])

  def load(self) -> Any:
    return config_lib.load(self.spec, self.overrides)


@dataclasses.dataclass(frozen=True)
class Agreement:
  """How a column of ours agrees with the paper's, over the rows that have both numbers.

  Attributes:
    rank_correlation: Spearman's; None with fewer than two rows, or where all numbers of a side are equal.
    same: of the pairs of rows whose numbers differ in the paper, those in the same order with us.
    pairs: how many such pairs there are.
  """

  rank_correlation: float | None
  same: int
  pairs: int


def load(spec: str, small: bool = False) -> Sweep:
  """The table of `path.py:name`, at the paper's size or at one for two CPU cores.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file has no `sweep`, no table of that name, or a table with unknown keys.
  """
  file, _, name = spec.partition(":")
  return config_lib.parse(config_lib.choose(f"table of {file}:", name, _tables(file, small)), Sweep, name)


def jobs(
  sweep: Sweep, workdir: epath.PathLike, *, config: str | None = None, overrides: Iterable[str] = ()
) -> tuple[Job, ...]:
  """The runs of a sweep, each in its own folder of `workdir`; all configs are checked.

  Args:
    config: the config of the runs in place of the sweep's own.
    overrides: `key=value` for every run; a row's own win.

  Raises:
    ValueError: a config that does not parse.
  """
  spec = config or sweep.config
  shared = tuple(item.removeprefix("--").removeprefix("config.") for item in overrides)
  found = []
  for row in sweep.rows:
    file, _, arg = spec.partition(":")
    args = ",".join(filter(None, [arg, row.arg]))
    own = tuple(f"{key}={value!r}" for key, value in row.overrides.items())
    place = epath.Path(workdir).expanduser() / folder_of(row.name)
    found.append(Job(row, f"{file}:{args}" if args else file, (*shared, *own), place))
    try:
      recipes.parse(found[-1].load())
    except ValueError as error:
      raise ValueError(f"row {row.name!r}: {error}") from error
  return tuple(found)


def folder_of(name: str) -> str:
  """A row's name as that of a folder."""
  return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


def run(found: Sequence[Job], train: Train = experiment.train) -> Iterator[Job]:
  """Train what is not finished, one after the other; gives each run as it ends, and stops when one is preempted.

  A run whose numbers are not finite is left as it is, and the sweep goes on; `table` calls it diverged.

  Raises:
    ValueError: a folder holds a finished run of another config.
  """
  for job in found:
    if not finished(job):
      try:
        if not train(job.load(), job.workdir):
          return
      except FloatingPointError as error:
        (job.workdir / "diverged.txt").write_text(f"{error}\n")
    yield job


def finished(job: Job) -> bool:
  """Whether a run has done all of its steps and their evaluations, or has diverged.

  Raises:
    ValueError: it did so under another config.
  """
  raw = job.load()
  diverged = (job.workdir / "diverged.txt").exists()
  if not diverged and experiment.finished(job.workdir) < raw.steps:
    return False
  changed = list(experiment.changes(job.workdir, Metadata(config=config_lib.to_dict(raw), meaning={})))
  if changed:
    listed = "; ".join(line.removeprefix("changed").strip() for line in changed)
    raise ValueError(f"{job.workdir} holds a finished run of another config ({listed}); give another --workdir")
  return True


def value(job: Job, column: Column) -> Value:
  """The last number that a run's metrics have for a column, `diverged`, or None before there is one."""
  if column.metric is None:
    return None
  if (job.workdir / "diverged.txt").exists():
    return "diverged"
  if not (job.workdir / writers.FILE).exists():
    return None
  numbers = [row[column.metric] for row in writers.read(job.workdir) if row.get(column.metric) is not None]
  if not numbers:
    return None
  return float(numbers[-1]) * (100 if column.percent else 1)


def agreement(paper: Sequence[float], ours: Sequence[float]) -> Agreement:
  """Do two lists of numbers order the same things alike?

  >>> agreement([59.7, 64.4, 60.7], [30.1, 41.0, 38.0])
  Agreement(rank_correlation=1.0, same=3, pairs=3)
  """
  correlation = None
  if len(paper) > 1 and len(set(paper)) > 1 and len(set(ours)) > 1:
    correlation = round(float(np.corrcoef(scipy.stats.rankdata(paper), scipy.stats.rankdata(ours))[0, 1]), 6)
  steps = [(paper[i] - paper[j], ours[i] - ours[j]) for i in range(len(paper)) for j in range(i)]
  ordered = [(p, o) for p, o in steps if p]
  return Agreement(correlation, sum(p * o > 0 for p, o in ordered), len(ordered))


def table(sweep: Sweep, found: Sequence[Job]) -> dict[str, Any]:
  """Paper and ours by row and column, and their agreement by column; fit for JSON."""
  rows = [
    {
      "name": job.row.name,
      "command": job.command,
      "paper": dict(job.row.paper),
      "ours": {name: value(job, column) for name, column in sweep.columns.items()},
    }
    for job in found
  ]
  verdicts = {}
  for name in sweep.columns:
    both = [(row["paper"].get(name), row["ours"][name]) for row in rows]
    both = [(p, o) for p, o in both if p is not None and isinstance(o, float)]
    verdicts[name] = dataclasses.asdict(agreement([p for p, _ in both], [o for _, o in both])) | {"rows": len(both)}
  return {"title": sweep.title, "source": sweep.source, "rows": rows, "agreement": verdicts}


def markdown(found: Mapping[str, Any]) -> str:
  """A `table` for reading."""
  names = list(found["agreement"])
  heads = ["run", *(f"{name}, {who}" for name in names for who in ("paper", "ours"))]
  cells = lambda row: (_text(row[who].get(n)) for n in names for who in ("paper", "ours"))
  lines = [f"# {found['title']}", "", found["source"], ""]
  lines += [*_grid(heads, ([row["name"], *cells(row)] for row in found["rows"])), ""]
  for name, verdict in found["agreement"].items():
    if verdict["pairs"]:
      verb = "the same order" if verdict["same"] == verdict["pairs"] else "not the same order"
      counts = f"{verdict['same']} of {verdict['pairs']} pairs alike"
      correlation = _text(verdict["rank_correlation"])
      lines.append(f"- {name}: {verb}, {counts}, rank correlation {correlation} over {verdict['rows']} rows")
  return "\n".join(lines).rstrip() + "\n"


def page(spec: str) -> str:
  """The paper's numbers alone of a file's tables, or of the one named after a colon; rows without any are left out.

  Raises:
    FileNotFoundError, ValueError: as `load`.
  """
  file, _, only = spec.partition(":")
  tables = _tables(file)
  if only:
    tables = {only: config_lib.choose(f"table of {file}:", only, tables)}
  lines = [f"# Tables of `{file}`", "", "The papers' numbers as the sweeps have them, made by", "", "```bash"]
  lines += [f"python launch/sweep.py --sweep={spec} --paper", "```", ""]
  for name, raw in tables.items():
    sweep = config_lib.parse(raw, Sweep, name)
    rows = [row for row in sweep.rows if row.paper]
    lines += [f"## {sweep.title}", "", f"`{name}`: {sweep.source}", ""]
    if rows:
      cells = ([row.name, *(str(row.paper.get(n, NOTHING)) for n in sweep.columns)] for row in rows)
      lines += [*_grid(["run", *sweep.columns], cells), ""]
  return "\n".join(lines).rstrip() + "\n"


def write(sweep: Sweep, found: Sequence[Job], workdir: epath.PathLike) -> tuple[epath.Path, ...]:
  """Writes `table.md` and `table.json`, on the first process only; returns their paths."""
  folder, results = epath.Path(workdir).expanduser(), table(sweep, found)
  paths = folder / f"{TABLE}.md", folder / f"{TABLE}.json"
  if jax.process_index() == 0:
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, (markdown(results), json.dumps(results, indent=2) + "\n"), strict=True):
      path.write_text(text)
  return paths


def _tables(file: str, small: bool = False) -> Mapping[str, Any]:
  module = config_lib.execute(file, "sweep")
  if not hasattr(module, "sweep"):
    raise ValueError(f"sweep file {file!r} defines no sweep(small)")
  return module.sweep(small)


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
  return [_line(heads), _line(["---"] * len(heads)), *map(_line, rows)]


def _line(cells: Iterable[str]) -> str:
  return f"| {' | '.join(cells)} |"


def _text(number: Value) -> str:
  if number is None:
    return NOTHING
  return number if isinstance(number, str) else f"{number:.2f}"
