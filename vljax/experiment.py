"""From a config to a trained workdir with its report: what launch/train.py does."""

import json
import pathlib
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging
from etils import epath

from vljax import config as config_lib
from vljax import encode, hub, interop, recipes, report
from vljax.checkpoint import Metadata
from vljax.checkpoint import metadata as metadata_lib
from vljax.checkpoint.steps import steps
from vljax.data import sources, vocabulary
from vljax.models import fitting
from vljax.parallel import mesh as meshes
from vljax.parallel import processes
from vljax.recipes import clip
from vljax.train import loop

FINISHED = "finished.txt"
"""The file of a workdir that says how many steps it has done with all of their evaluations."""


def train(raw: Any, workdir: epath.PathLike) -> bool:
  """Train the config's recipe in `workdir`, or go on with what is there; True when the last step is done.

  Raises:
    ValueError: a config that cannot run, or a workdir that means something else.
    FileNotFoundError: data that are not there.
    NotADirectoryError: `workdir` is a file.
  """
  workdir = epath.Path(workdir).expanduser()
  if workdir.exists() and not workdir.is_dir():
    raise NotADirectoryError(f"the workdir {workdir} is a file; legal: a folder, or a path where one can be made")
  parsed = recipes.parse(raw)
  meshes.initialize()
  tokenizer = None
  begun = bool(steps(workdir / "checkpoints"))
  if not begun:  # what a start left behind that came to nothing
    processes.first(lambda: (workdir / vocabulary.FOLDER).rmtree(missing_ok=True))
  if parsed.tokenizer is not None:
    prepare = lambda: vocabulary.prepare(parsed.tokenizer, workdir, lambda path: interop.load_tower(path).tokenizer)
    processes.first(prepare)
    tokenizer = prepare()
  if isinstance(parsed, clip.Config) and not begun:
    check_features(parsed)
  recipe = recipes.build(parsed, tokenizer)
  metadata = Metadata(config=config_lib.to_dict(raw), meaning=recipes.meaning(parsed, tokenizer))
  for line in changes(workdir, metadata):
    print(line, file=sys.stderr)
  state = loop.run(recipe, parsed, workdir, tokenizer=tokenizer, metadata=metadata, resize=fitting.resize_leaf)
  if state is None:
    return False
  processes.first(lambda: (workdir / FINISHED).write_text(f"{parsed.steps}\n"))
  if isinstance(parsed, clip.Config) and parsed.report is not None:
    try:
      for path in write_report(parsed.report, workdir):
        print(f"report      {path}")
    except (ValueError, OSError, ImportError) as error:  # the run is finished all the same
      logging.warning("there is no report of %s: %s", parsed.report.source, error)
  return True


def finished(workdir: epath.PathLike) -> int:
  """The steps of the last run in `workdir` that came to its end with its evaluations, or 0."""
  file = epath.Path(workdir) / FINISHED
  return int(file.read_text()) if file.exists() else 0


def check_features(parsed: clip.Config) -> None:
  """Features that a run reads are of the towers that it stores.

  Raises:
    FileNotFoundError, ValueError: as `encode.check`.
  """
  read = [*parsed.streams.values(), *parsed.evals.values()]
  kinds = [sources.uris.parse(part.source)[:2] for part in read]
  folders = dict.fromkeys(path for kind, path in kinds if kind == "features")
  if folders:
    model, params = hub.initial(parsed)
    for folder in folders:
      encode.check(folder, params, encode.meaning(model, parsed.preprocess))


def changes(workdir: epath.Path, metadata: Metadata) -> Iterator[str]:
  """What the config says otherwise than when the workdir was begun."""
  if (workdir / metadata_lib.FILE).exists():
    before, now = metadata_lib.read(workdir).config, metadata.to_json()["config"]
    for key, (old, new) in config_lib.diff(before, now).items():
      yield f"changed     config.{key}: {old!r} -> {new!r}"
      if key.startswith("tokenizer."):
        yield f"kept        {workdir / vocabulary.FOLDER}, which the run began with"


def write_report(wanted: clip.Report, workdir: epath.PathLike) -> tuple[epath.Path, ...]:
  """The page of a finished run: curves, held-out pictures with their nearest names, typed queries.

  All processes call this together, since they open the checkpoint together; the first one writes. Pictures that cannot
  be read or have no caption are named and left out, as evaluations do.
  """
  bundle = hub.load(workdir)
  if jax.process_index() > 0:
    return ()
  examples = bundle.gallery(wanted.source).examples
  page = report.build(
    wanted.title,
    shlex.join(["python", *sys.argv]),
    encode_image=bundle.encode_image,
    encode_text=bundle.encode_text,
    examples=examples,
    queries=wanted.queries,
    metrics=workdir,
    credit=examples.credit or "",
  )
  return tuple(report.write(page, workdir))


def next_steps(workdir: epath.PathLike, recipe: str = "clip") -> str:
  """The commands that a user wants after a run."""
  here = pathlib.Path(sys.executable).parent
  bin = here.relative_to(pathlib.Path.cwd()) if here.is_relative_to(pathlib.Path.cwd()) else here
  folder = shlex.quote(str(workdir))
  anywhere = shlex.quote(str(epath.Path(pathlib.Path.cwd()) / epath.Path(workdir).expanduser()))  # not Jupyter's cwd
  if recipe == "flamingo":
    return f"""
Next:
  ask it                   {bin}/python launch/generate.py --model={folder} --max_tokens=24 PICTURE.jpg
  talk with it             {bin}/python launch/generate.py --model={folder} --chat
  open it in a notebook    {bin}/pip install jupyterlab
                           WORKDIR={anywhere} SOURCE=folder:PICTURES {bin}/jupyter lab notebooks/flamingo_fewshot.ipynb
"""
  opened = f"import vljax; print(vljax.hub.load({json.dumps(str(workdir))})"
  if recipe != "clip":
    return f"""
Next:
  open it                  {bin}/python -c {shlex.quote(f"{opened}.encode_image(['PICTURE.jpg']).shape)")}
  features of a folder     {bin}/python launch/encode.py --model={folder} --source=folder:PICTURES --to=FEATURES
"""
  load = f"{opened}.encode_text('a red heart').shape)"
  return f"""
Next:
  open it in a notebook    {bin}/pip install jupyterlab
                           WORKDIR={anywhere} {bin}/jupyter lab notebooks/clip_zero_shot.ipynb
                           or at once: {bin}/python -c {shlex.quote(load)}
  train on your pictures   {bin}/python launch/train.py --workdir=runs/mine \\
                             --config=configs/contrastive/clip_folder.py:dir=PICTURES
                           (a picture's caption is the text file beside it, else its file name)
  use a GPU or a TPU       {bin}/pip install -e '.[cuda]' (or '.[tpu]'), then the same; the mesh takes all devices
"""
