"""launch/fewshot.py in this process: a Flamingo of two steps is asked in words and by options."""

import json
import runpy

import pytest

from vljax import config, experiment, hub
from vljax.data import sources

PAIRS = "synthetic:pairs?n=24&size=16&holdout=6"


@pytest.fixture(scope="module")
def main(root):
  return runpy.run_path(f"{root}/launch/fewshot.py")["main"]


@pytest.fixture(scope="module")
def workdir(root, tmp_path_factory):
  folder = tmp_path_factory.mktemp("flamingo") / "run"
  spec = f"{root}/configs/flamingo/flamingo_smollm2.py:smoke"
  assert experiment.train(config.load(spec, ["lm.length=256"]), folder)
  return folder


@pytest.fixture
def run(main, workdir, tmp_path, capsys):
  """run(*flags) -> (what was printed, the lines of each file)."""

  def run(*flags):
    asked = f"--model={workdir}", f"--to={tmp_path}", f"--source={PAIRS}&split=val", f"--support={PAIRS}&split=train"
    assert main([*asked, *flags]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    files = {path.name: [json.loads(line) for line in path.read_text().splitlines()] for path in tmp_path.iterdir()}
    return printed, files

  return run


@pytest.mark.slow
def test_captions_by_nearest_examples(run, smoke_workdir):
  flags = "--shots=0,2", "--max_tokens=4", "--beams=1", "--most=3", f"--nearest={smoke_workdir}"
  printed, files = run(*flags)
  assert [row["shots"] for row in printed] == [0, 2]
  assert all("cider" in row for row in printed)
  head, *rows = files["shots_2.jsonl"]
  assert head["settings"]["retrieval"] == "rices"
  assert head["settings"]["nearest"] == str(smoke_workdir)
  assert head["settings"]["queries"]["count"] == len(rows) == 3
  for row in rows:
    assert len(set(row["support"])) == 2
    assert row["prompt"].count("<image>") == 3
    assert "\n" not in row["output"]
  assert files["shots_0.jsonl"][1]["prompt"].count("<image>") == 1


@pytest.mark.slow
def test_options_are_ranked(run):
  names = sources.open(f"{PAIRS}&split=train").classes
  asked = "--answer=class", "--task=class", "--shots=2", "--most=3", "--permutations=2"
  printed, files = run(*asked, f"--options={'|'.join(names)}")
  assert printed[0]["top1/chance"] == pytest.approx(1 / len(names))
  for row in files["shots_2.jsonl"][1:]:
    assert row["scores"].keys() == set(names)
    assert row["output"] == max(row["scores"], key=row["scores"].get)
    assert row["orders"] == 2
  with pytest.raises(ValueError, match="none of the answers .* is among the options"):
    run(*asked, "--options=nothing|something")


@pytest.mark.slow
def test_clips_of_each_class_near_the_own_features(run, smoke_workdir):
  names = sources.open(f"{PAIRS}&split=train").classes or ()
  asked = "--answer=class", "--task=class", f"--options={'|'.join(names)}"
  flags = *asked, "--shots=1", "--frames=2", "--fps=3", "--per_class=1"
  files = run(*flags, "--most=2", "--nearest=self")[1]
  settings = files["shots_1.jsonl"][0]["settings"]
  assert (settings["retrieval"], settings["nearest"]) == ("rices", "self")
  assert (settings["support"]["per_class"], settings["support"]["count"]) == (1, len(names))
  head, *rows = run(*flags, "--most=2", f"--nearest={smoke_workdir}")[1]["shots_1.jsonl"]
  assert (head["settings"]["nearest"], len(rows)) == (str(smoke_workdir), 2)
  printed, files = run(*flags, "--most=2", "--seed=3", "--seeds=2")
  assert {"shots_1_seed_3.jsonl", "shots_1_seed_4.jsonl"} <= files.keys()
  heads = [files[f"shots_1_seed_{seed}.jsonl"][0] for seed in (3, 4)]
  assert [head["settings"]["seed"] for head in heads] == [3, 4]
  top1 = [head["metrics"]["top1"] for head in heads]
  assert printed[0]["top1"] == pytest.approx(sum(top1) / 2)
  assert printed[0]["top1/std"] == pytest.approx(abs(top1[0] - top1[1]) / 2**0.5)
  with pytest.raises(ValueError, match="--seeds=2 with --nearest; legal: one of them"):
    run(*flags, "--seeds=2", "--nearest=self")
  with pytest.raises(ValueError, match="--seeds=0; legal: 1 or more"):
    run(*flags, "--seeds=0")
  with pytest.raises(ValueError, match="--rate and --fps are of videos"):
    run("--rate=2")


@pytest.mark.slow
def test_examples_cannot_be_near_in_a_model_of_texts(run, monkeypatch):
  load = hub.load
  monkeypatch.setattr(hub, "load", lambda path: object() if path == "texts" else load(path))
  with pytest.raises(ValueError, match="--nearest=texts: that model encodes no pictures; legal: self, or a model"):
    run("--nearest=texts")


def test_a_model_that_sees_nothing_is_refused(main, smoke_workdir, tmp_path):
  with pytest.raises(ValueError, match="is no Flamingo; legal: a workdir of the recipe flamingo"):
    main([f"--model={smoke_workdir}", f"--to={tmp_path}", f"--source={PAIRS}", f"--support={PAIRS}"])
