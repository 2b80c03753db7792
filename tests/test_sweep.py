"""Sweeps: all of a table's runs with a recipe of one number, resumed, collected and compared with the paper."""

import json

import pytest

from vljax import config, experiment, recipes, sweep
from vljax.sweep import Agreement, Column

CONFIG = """
import ml_collections

def get_config(arg=""):
  c = ml_collections.ConfigDict(dict(recipe="toy", steps=3, log_every=1, writers=("jsonl",)))
  c.seed = int(arg or 0)
  source = dict(source="synthetic:pairs?n=8&size=8", transforms=[("decode",), ("keep", "image")], batch=8)
  c.streams = dict(train=source)
  c.optim = [(".*", dict(name="sgd"))]
  c.schedule = dict(name="constant", lr=0.1)
  c.max_bad_steps = 1
  return c
"""
TABLES = """
def sweep(small):
  columns = dict(top1=dict(metric="probe/top1"), w=dict(metric="fit/train/w", percent=False))
  rows = [dict(name=f"Target {t:g}", overrides=dict(target=t), paper=dict(top1=p)) for t, p in ROWS]
  table = dict(title="Targets", source="A paper, table 1.", config="CONFIG", columns=columns, rows=rows)
  tables = dict(target=table, misspelt={**table, "rowz": ()})
  return dict(fast=table) if small else tables
"""


@pytest.fixture
def tables(tmp_path, monkeypatch):
  """A function of (target, paper's number) pairs -> path of a file with a table of them."""
  monkeypatch.setitem(recipes.RECIPES, "toy", "toy_regression")
  (tmp_path / "toy.py").write_text(CONFIG)

  def write(*rows):
    (tmp_path / "tables.py").write_text(TABLES.replace("ROWS", repr(rows)).replace("CONFIG", str(tmp_path / "toy.py")))
    return f"{tmp_path}/tables.py"

  return write


@pytest.mark.slow
def test_runs_collects_compares_and_does_not_run_again(tables, tmp_path):
  found = sweep.load(tables((1, 50.5), (3, 61.0), (2, 60.0)) + ":target")
  jobs = sweep.jobs(found, tmp_path / "runs")
  assert sweep.table(found, jobs)["rows"][0]["ours"] == {"top1": None, "w": None}
  assert [job.row.name for job in sweep.run(jobs)] == ["Target 1", "Target 3", "Target 2"]
  assert list(sweep.run(jobs, train=None)) == list(jobs)
  text, data = (path.read_text() for path in sweep.write(found, jobs, tmp_path / "runs"))
  results = json.loads(data)
  for row, target in zip(results["rows"], (1, 3, 2), strict=True):
    # Three steps of momentum 0.9 at rate 0.1: w = 0.2, 0.54, 0.938 of the target; metrics are of the step's beginning.
    assert row["ours"] == pytest.approx({"top1": 0.938 * target, "w": 0.54 * target}, rel=1e-5)
  assert results["rows"][1]["paper"] == {"top1": 61.0}
  assert results["agreement"]["top1"] == {"rank_correlation": 1.0, "same": 3, "pairs": 3, "rows": 3}
  assert results["agreement"]["w"] == {"rank_correlation": None, "same": 0, "pairs": 0, "rows": 0}
  assert "| Target 3 | 61.00 | 2.81 | – | 1.62 |" in text.splitlines()
  assert "- top1: the same order, 3 of 3 pairs alike, rank correlation 1.00 over 3 rows" in text.splitlines()
  assert "- w" not in text


def test_a_run_that_ended_in_its_last_evaluation_is_not_finished(tables, tmp_path):
  """Its metrics have the last step, but not the evaluation, which the next start of the sweep makes."""
  found = sweep.load(tables((1, 50.5)) + ":target")
  (job,) = sweep.jobs(found, tmp_path / "runs")

  def cut(raw, workdir):
    assert experiment.train(raw, workdir)
    (workdir / experiment.FINISHED).unlink()
    metrics = workdir / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows if "probe/top1" not in row))
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    list(sweep.run([job], train=cut))
  assert sweep.table(found, [job])["rows"][0]["ours"]["top1"] is None
  assert list(sweep.run([job])) == [job]
  assert sweep.table(found, [job])["rows"][0]["ours"]["top1"] == pytest.approx(0.938, rel=1e-5)


def test_a_finished_run_of_another_config_is_not_taken_for_this_one(tables, tmp_path):
  found = sweep.load(tables((1, 50.5)) + ":target")
  assert len(list(sweep.run(sweep.jobs(found, tmp_path / "runs")))) == 1
  others = sweep.jobs(found, tmp_path / "runs", overrides=["--config.scale=0.5"])
  with pytest.raises(
    ValueError, match=r"target-1 holds a finished run of another config \(config.scale: None -> 0.5\)"
  ):
    list(sweep.run(others))


@pytest.mark.slow
def test_a_run_that_diverges_is_named_and_the_others_go_on(tables, tmp_path):
  found = sweep.load(tables((1e30, 40.0), (2, 50.0), (1, 60.0)) + ":target")
  jobs = sweep.jobs(found, tmp_path)
  assert len(list(sweep.run(jobs))) == len(list(sweep.run(jobs, train=None))) == 3
  results = sweep.table(found, jobs)
  assert results["rows"][0]["ours"] == {"top1": "diverged", "w": "diverged"}
  assert results["agreement"]["top1"] == {"rank_correlation": -1.0, "same": 0, "pairs": 1, "rows": 2}
  assert "| Target 1e+30 | 40.00 | diverged | – | diverged |" in sweep.markdown(results)
  assert "not the same order, 0 of 1 pairs" in sweep.markdown(results)


def test_a_preempted_run_ends_the_sweep(tables, tmp_path):
  jobs = sweep.jobs(sweep.load(tables((1, 1.0), (2, 2.0)) + ":target"), tmp_path)
  asked = []
  assert list(sweep.run(jobs, train=lambda raw, workdir: asked.append(workdir))) == []
  assert asked == [jobs[0].workdir]


def test_commands_do_what_the_sweep_does(tables, tmp_path):
  found = sweep.load(tables((1, 1.0)) + ":target")
  shared = ["--config.steps=9", "config.target=8", "scale=2.0"]
  job = sweep.jobs(found, "runs/my sweep", config=f"{tmp_path}/toy.py:7", overrides=shared)[0]
  assert job.command == (
    f"python launch/train.py --config={tmp_path}/toy.py:7 '--workdir=runs/my sweep/target-1' --config.steps=9 "
    "--config.target=8 --config.scale=2.0 --config.target=1"
  )
  raw = job.load()
  assert (raw.steps, raw.target, raw.seed, raw.scale) == (9, 1, 7, 2.0)


def test_arguments_of_a_row_follow_those_of_the_sweep(tables, tmp_path):
  raw = dict(title="t", source="s", config=f"{tmp_path}/toy.py", columns=dict(a=dict(metric="a")))
  rows = (dict(name="Batch 4,096 / linear", arg="5"), dict(name="none"))
  tables()
  jobs = sweep.jobs(config.parse({**raw, "rows": rows}, sweep.Sweep), tmp_path)
  assert [job.spec for job in jobs] == [f"{tmp_path}/toy.py:5", f"{tmp_path}/toy.py"]
  assert [job.workdir.name for job in jobs] == ["batch-4-096-linear", "none"]
  with pytest.raises(FileNotFoundError, match=r"^config file '.*/b.py' does not exist"):
    sweep.jobs(config.parse({**raw, "rows": rows}, sweep.Sweep), tmp_path, config=f"{tmp_path}/b.py:a")


def test_every_error_names_what_is_wrong(tables, tmp_path):
  file = tables((1, 1.0))
  with pytest.raises(FileNotFoundError, match=r"^sweep file 'configs/none.py' does not exist"):
    sweep.load("configs/none.py:target")
  with pytest.raises(ValueError, match=r"toy.py' defines no sweep\(small\)$"):
    sweep.load(f"{tmp_path}/toy.py:target")
  with pytest.raises(ValueError, match=r"^unknown table of .* 'tarket'; did you mean 'target'"):
    sweep.load(f"{file}:tarket")
  with pytest.raises(ValueError, match=r"^unknown key 'misspelt.rowz'; did you mean 'rows'"):
    sweep.load(f"{file}:misspelt")
  with pytest.raises(ValueError, match=r"^unknown table of .* 'target'; legal: fast$"):
    sweep.load(f"{file}:target", small=True)
  with pytest.raises(ValueError, match=r"^row 'Target 1': unknown key 'config.tarket'; did you mean 'target'"):
    sweep.jobs(sweep.load(f"{file}:target"), tmp_path, overrides=["tarket=1"])
  with pytest.raises(ValueError, match=r"must differ in letters and digits; found \['target-1', 'target-1'\]"):
    sweep.load(tables((1, 1.0), (1, 2.0)) + ":target")


def test_a_page_has_the_papers_numbers_of_all_tables(tmp_path):
  rows = [dict(name="a", paper=dict(x=69.0)), dict(name="b"), dict(name="c", paper=dict(y=7.25))]
  table = dict(title="T", source="Table 1.", config="c", columns=dict(x=dict(metric="x"), y=dict(metric=None)))
  tables = dict(one={**table, "rows": rows}, two={**table, "rows": rows[1:2]})
  (tmp_path / "tables.py").write_text(f"def sweep(small):\n  return {tables}\n")
  head, one, two = sweep.page(f"{tmp_path}/tables.py").split("## T\n\n")
  assert f"--sweep={tmp_path}/tables.py --paper" in head
  assert one == "`one`: Table 1.\n\n| run | x | y |\n| --- | --- | --- |\n| a | 69.0 | – |\n| c | – | 7.25 |\n\n"
  assert two == "`two`: Table 1.\n"
  with pytest.raises(FileNotFoundError, match=r"^sweep file 'configs/none.py' does not exist"):
    sweep.page("configs/none.py")


def test_rows_give_numbers_for_columns_that_are_there():
  row = sweep.Row(name="a", paper={"top-1": 1.0})
  with pytest.raises(ValueError, match=r"^unknown column of row 'a' 'top-1'; did you mean 'top1'"):
    sweep.Sweep(title="t", source="s", config="c", columns={"top1": Column(metric="m")}, rows=(row,))


@pytest.mark.parametrize(
  ("paper", "ours", "expected"),
  [
    ([1, 2, 3, 4], [10, 20, 30, 40], Agreement(1.0, 6, 6)),
    ([1, 2, 3, 4], [9, 7, 5, 3], Agreement(-1.0, 0, 6)),
    ([1, 2, 3, 4], [2, 1, 4, 3], Agreement(0.6, 4, 6)),
    ([1, 1, 2], [3, 4, 5], Agreement(0.866025, 2, 2)),
    ([1, 2], [5, 5], Agreement(None, 0, 1)),
    ([7, 7], [5, 6], Agreement(None, 0, 0)),
    ([1], [1], Agreement(None, 0, 0)),
    ([], [], Agreement(None, 0, 0)),
  ],
)
def test_agreement(paper, ours, expected):
  assert sweep.agreement(paper, ours) == expected
