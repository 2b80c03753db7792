"""What users get wrong, and what they are told: the key or file, the value found, what is legal."""

import os
import pickle
import re
import runpy
import shutil
import tarfile

import jax
import numpy as np
import pytest
import toys
from absl import logging

from vljax import config, hub, recipes
from vljax.checkpoint import load_params, metadata
from vljax.data import tokenizers
from vljax.train import writers
from vljax.train.loop import NotFinite
from vljax.train.recipe import Phase, Recipe
from vljax.train.run import Run
from vljax.train.trainer import Trainer


def raises(message, kind=ValueError):
  return pytest.raises(kind, match="^" + re.escape(message))


CONFIGS = {
  "misspelt key": (
    "stepz=3",
    "unknown key 'config.stepz'; did you mean 'steps'? legal: augment, checkpoint, clip, combine, ",
  ),
  "misspelt nested key": (
    "schedule.warmpu=3",
    "unknown key 'config.schedule.warmpu'; did you mean 'warmup'? legal: decay, final, lr, name, scaling, timescale, ",
  ),
  "misspelt value": (
    "combine=merged",
    "unknown value config.combine = 'merged'; did you mean 'merge'? legal: accumulate, merge, round_robin",
  ),
  "value of a wrong type": ("steps=many", "config.steps = 'many' is of type str; legal: int"),
  "unknown recipe": (
    "recipe=clp",
    f"unknown recipe 'clp'; did you mean 'clip'? legal: {', '.join(sorted(recipes.RECIPES))}",
  ),
  "unknown variant": (
    "image.variant=tset",
    "unknown ViT variant 'tset'; did you mean 'test'? legal: B/16, B/32, H/14",
  ),
  "unknown field of a tower": ("text.widht=3", "unknown override 'widht' of TextTransformer; did you mean 'width'?"),
  "mesh that does not divide the devices": (
    "mesh.data=3",
    "mesh data=3 fsdp=1 tensor=1 needs 3 devices; found 8; legal: data * fsdp * tensor = 8, or data=-1 with "
    "fsdp * tensor one of 1, 2, 4, 8",
  ),
  "batch that does not divide the mesh": (
    "streams.train.batch=12",
    "config.streams.train.batch = 12 does not divide over data * fsdp = 8 * 1 = 8 of the mesh; nearest legal: 8 or 16",
  ),
  "tokenizer with too many ids": ("text.vocab=100", "the tokenizer has 300 ids; config.text.vocab = 100 holds fewer"),
  "texts longer than the positions": (
    "text.length=15",
    "config.tokenizer.length = 16 is more than config.text.length = 15",
  ),
  "another end of text": (
    "text.eos_id=2",
    "tokenizer sentencepiece ends texts with id 1, to be pooled by 'eos'; config.text pools by 'eos' with eos_id = 2",
  ),
  "transform that there is not": (
    "streams.train.transforms=[('decode',), ('random_resized_crp', 16)]",
    "unknown transform 'random_resized_crp'; did you mean 'random_resized_crop'? legal: aligned_crop, ",
  ),
  "stream without tokens": (
    "streams.train.transforms=[('decode',), ('random_resized_crop', 16), ('keep', 'image')]",
    "the streams of clip must give the fields image and tokens; there is no 'tokens' among image (see config.streams.",
  ),
  "regex that matches no parameter": (
    "trains=imgae/.*",
    "the regex 'imgae/.*' matches no parameter; the names begin: ",
  ),
  "source kind that there is not": (
    "streams.train.source=sinthetic:pairs",
    "unknown source kind 'sinthetic'; did you mean 'synthetic'? legal: array_record, ",
  ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config(train, name):
  override, message = CONFIGS[name]
  with raises(message):
    train(f"--config.{override}")


def stream_named(*names):
  streams = {name: dict(source="synthetic:pairs?n=16", batch=8) for name in names}
  return config.parse(dict(recipe="clip", steps=1, streams=streams), Run)


def test_stream_that_no_phase_knows():
  phase = Phase(name="lm", loss=toys.masked().phases[0].loss, streams=("pairs", "video"))
  recipe = Recipe(init=toys.masked().init, phases=(phase,))
  with raises("phase 'lm' reads the stream 'pairs'; config.streams has pirs, video"):
    Trainer(recipe, stream_named("pirs", "video"))
  with raises("no phase reads config.streams.vido; the phases read pairs, video"):
    Trainer(recipe, stream_named("pairs", "video", "vido"))


def test_workdir_that_is_a_file(train, tmp_path):
  (tmp_path / "file").write_text("")
  with raises(f"the workdir {tmp_path}/file is a file; legal: a folder, or ", NotADirectoryError):
    train(workdir=tmp_path / "file")


def test_workdir_with_metadata_that_cannot_be_read(train, tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run/metadata.json").write_text("{")
  with raises(f"{tmp_path}/run/metadata.json is not JSON: Expecting property name"):
    train()


def test_a_start_that_failed_leaves_no_vocabulary_behind(train, smoke_workdir, pictures, tmp_path):
  kept = lambda workdir: tokenizers.load(workdir / "tokenizer")
  for learn in (f"--config.tokenizer.learn=folder:{pictures}", "--config.clip=1.0"):
    with raises("mesh data=3 fsdp=1 tensor=1 needs 3 devices; found 8"):
      train("--config.mesh.data=3", learn)
    assert (kept(tmp_path / "run") == kept(smoke_workdir)) == ("learn" not in learn)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_workdir_without_permission(train, tmp_path):
  (tmp_path / "closed").mkdir(mode=0o500)
  with pytest.raises(PermissionError, match="closed"):
    train(workdir=tmp_path / "closed/run")


def test_empty_folder(train, tmp_path):
  (tmp_path / "empty").mkdir()
  with raises(f"folder '{tmp_path}/empty' holds no picture; looked for .jpg, .jpeg, .png, "):
    train(f"--config.streams.train.source=folder:{tmp_path}/empty")
  with raises(f"folder '{tmp_path}/absent' does not exist", FileNotFoundError):
    train(f"--config.streams.train.source=folder:{tmp_path}/absent")


def test_tar_cut_in_half(train, tmp_path, pictures):
  whole, half = tmp_path / "whole.tar", tmp_path / "half.tar"
  with tarfile.open(whole, "w") as tar:
    for file in sorted(pictures.iterdir()):
      tar.add(file, file.name)
  half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
  with raises(f"tar '{half}' is cut off or damaged at byte "):
    train(f"--config.streams.train.source=webdataset:{half}")


def test_pictures_without_a_caption(train, pictures):
  for file in pictures.glob("*.txt"):
    file.write_text("\n")
  message = (
    r"^the first examples of config.streams.train are all broken; the last: number (\d+) of source 'folder:\S+': "
    r"ValueError: folder:\S+: '\1.jpg' has no caption: '\1.txt' is absent or empty$"
  )
  with pytest.raises(ValueError, match=message):
    train(f"--config.streams.train.source=folder:{pictures}")


def source_of(pictures, max_broken):
  return f"--config.streams.train.source=folder:{pictures}", f"--config.streams.train.max_broken={max_broken}"


@pytest.mark.slow
def test_a_truncated_picture_is_counted_and_the_run_goes_on(train, pictures, tmp_path, caplog):
  (pictures / "07.jpg").write_bytes((pictures / "07.jpg").read_bytes()[:300])
  (pictures / "08.txt").unlink()
  assert train(*source_of(pictures, 0.5), "--config.steps=5")
  warned = {m for m in caplog.messages if m.startswith("broken example")}
  assert any(
    re.match(r"broken example 07.jpg: ValueError: transform 'decode': 300 bytes .* are not an image", m)
    for m in warned
  )
  assert any("'08.jpg' has no caption" in m for m in warned)
  assert writers.read(tmp_path / "run")[-1]["data/train/broken"] >= 2
  assert hub.load(tmp_path / "run").encode_text(["the picture"]).shape == (1, 16)


@pytest.mark.slow
def test_too_many_truncated_pictures_stop_the_run(train, pictures):
  for file in sorted(pictures.glob("*.jpg"))[::2]:
    file.write_bytes(file.read_bytes()[:300])
  message = (
    r"^\d+ of \d+ examples are broken \(\d+ different ones\), more than the share max_broken = 0.1; "
    r"the last one is \d\d.jpg: ValueError: transform 'decode'"
  )
  with pytest.raises(ValueError, match=message):
    train(*source_of(pictures, 0.1), "--config.steps=50")


@pytest.mark.slow
def test_gradients_that_are_not_finite_stop_the_run(train, tmp_path, capsys):
  overrides = (
    "--config.schedule.lr=1e30",
    "--config.steps=30",
    "--config.max_bad_steps=3",
    "--config.checkpoint.every=1",
  )
  message = (
    r"^step 4: gradients were not finite 3 steps in a row; first bad leaf clip: image/blocks/\S+; "
    r"the updates were skipped, and the last checkpoint is step \d$"
  )
  with pytest.raises(NotFinite, match=message):
    train(*overrides)
  assert "step 2: the gradient of clip: image/blocks/" in capsys.readouterr().err
  params, _ = load_params(tmp_path / "run")
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(params)), "the checkpoint has no bad numbers"


@pytest.fixture
def workdir(smoke_workdir, tmp_path):
  """A copy of a finished run, two steps long."""
  return shutil.copytree(smoke_workdir, tmp_path / "run")


@pytest.mark.slow
def test_resume_with_another_width(train, workdir):
  before = metadata.read(workdir)
  with raises(f"{workdir}/checkpoints/2 holds another tree than the model needs: "):
    train("--config.image.width=48", "--config.steps=3")
  assert metadata.read(workdir) == before, "the run is as it was"
  assert hub.load(workdir).model.image.width == 32


@pytest.mark.slow
def test_start_from_a_run_of_another_width(train, smoke_workdir):
  message = (
    f"config.init[0] = ('{smoke_workdir}', 'image/.*', ''): the source leaf 'image/blocks/0/attention/key/bias' has "
    "the shape (2, 16), the target 'image/blocks/0/attention/key/bias' has (2, 24)"
  )
  with raises(message):
    train("--config.image.width=48", f"--config.init=[('{smoke_workdir}', 'image/.*', '')]")


@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("image.activation=quick_gelu", "image.activation is 'gelu', expected 'quick_gelu'"),
    ("preprocess.normalize=clip", "preprocess.mean is [0.5, 0.5, 0.5], expected [0.48145466, "),
  ],
)
def test_resume_with_another_meaning(train, workdir, override, message):
  with raises(f"{workdir} means something else than this run: {message}"):
    train(f"--config.{override}", "--config.steps=3")


def test_resume_with_another_length_of_texts(train, workdir):
  with raises(f"{workdir}/tokenizer holds a tokenizer of length 16; config.tokenizer.length = 12"):
    train("--config.tokenizer.length=12", "--config.steps=3")


class Evil:
  def __reduce__(self):
    return os.mkdir, (os.environ["VLJAX_TEST_EVIL"],)


def test_pickle_that_tries_to_run_code(tmp_path, monkeypatch):
  monkeypatch.setenv("VLJAX_TEST_EVIL", str(tmp_path / "ran"))
  (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
  with raises(f"{tmp_path}/evil.pkl: refused: the pickle names the class 'posix.mkdir', and only tensors and plain "):
    hub.load(tmp_path / "evil.pkl", activation="gelu")
  assert not (tmp_path / "ran").exists()


def test_hub_options_of_published_files_are_refused_for_a_workdir(smoke_workdir):
  with raises(f"{smoke_workdir} is a vljax workdir, which takes no whcih; legal: step, which"):
    hub.load(smoke_workdir, whcih="ema")


def test_recipe_is_named(smoke):
  raw = config.to_dict(smoke())
  del raw["recipe"]
  with raises(f"config has no key 'recipe'; legal values: {', '.join(sorted(recipes.RECIPES))}"):
    recipes.parse(raw)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--config.stepz=3"], "error: unknown key 'config.stepz'; did you mean 'steps'? legal: "),
    (["--config.streams.train.source=folder:/absent"], "error: folder '/absent' does not exist"),
    (["--stepz=3"], "error: unknown flag '--stepz=3'; legal: --config.KEY=VALUE"),
  ],
)
def test_errors_are_one_line_and_status_1(start_training, tmp_path, arguments, message):
  config_file = "--config=configs/contrastive/clip_quickstart.py:smoke"
  process = start_training(config_file, f"--workdir={tmp_path}/run", *arguments)
  text, errors = process.communicate(timeout=100)
  assert process.returncode == 1
  assert text == ""
  assert errors.startswith(message)
  assert errors.count("\n") == 1


PROGRAMS = {
  "convert": ("--from=/absent --to=y --format=hf", "/absent does not exist"),
  "encode": ("--model=/absent --source=folder:/absent --to=y", "/absent does not exist"),
  "evaluate": ("--model=/absent", "/absent does not exist"),
  "fewshot": ("--model=/absent --source=jsonl:x --support=jsonl:x --to=y", "/absent does not exist"),
  "generate": ("--model=/absent words", "/absent does not exist"),
  "plan": ("--config=/absent.py", "config file '/absent.py' does not exist "),
  "prepare": ("--from=foldr:x --to=y", "unknown source kind 'foldr'; did you mean 'folder'? "),
  "sweep": ("--sweep=/absent.py --workdir=y", "sweep file '/absent.py' does not exist "),
  "train": ("--config=/absent.py --workdir=y", "config file '/absent.py' does not exist "),
}


def test_all_programs_are_asked(root):
  starters = {"local"}  # its errors are those of absl's flags
  assert PROGRAMS.keys() == {file.stem for file in (root / "launch").glob("*.py")} - starters


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_errors_of_all_programs_are_one_line_and_status_1(root, tmp_path, monkeypatch, capfd, name):
  if name == "prepare":
    pytest.importorskip("tensorflow_datasets")
  arguments, message = PROGRAMS[name]
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv("VLJAX_DEBUG", raising=False)
  monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments.split()])
  verbosity = logging.get_verbosity()
  with pytest.raises(SystemExit) as ended:
    runpy.run_path(str(root / f"launch/{name}.py"), run_name="__main__")
  logging.set_verbosity(verbosity)
  assert ended.value.code == 1
  out, errors = capfd.readouterr()
  assert out == ""
  assert errors.startswith(f"error: {message}")
  assert errors.count("\n") == 1
