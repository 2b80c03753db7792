"""The commands and the pins that a clone starts with."""

import ast
import os
import re
import subprocess
import sys

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

PYTHONS = ("3.11", "3.12", "3.13")


def make(root, *words, **variables):
  environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")} | variables
  return subprocess.run(["make", *words], cwd=root, env=environment, capture_output=True, text=True, check=False)


def setup_lists(root):
  """The `core` list and the `extras` of setup.py, read without running setuptools."""
  body = ast.parse((root / "setup.py").read_text()).body
  kept = [n for n in body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]).startswith(("core", "extras"))]
  scope: dict = {}
  exec(compile(ast.Module(kept, []), "setup.py", "exec"), scope)
  return scope["core"], scope["extras"]


def pins(root, name):
  """Package name to [(marker, version)] of a constraints file."""
  found: dict[str, list] = {}
  for line in (root / name).read_text().splitlines():
    if line and not line.startswith("#"):
      requirement = Requirement(line)
      (specifier,) = requirement.specifier
      assert specifier.operator == "==", line
      found.setdefault(normal(requirement.name), []).append((requirement.marker, specifier.version))
  return found


def normal(name):
  return re.sub(r"[-_.]+", "-", name).lower()


def applies(marker: Marker | None, python: str) -> bool:
  return marker is None or marker.evaluate({"python_version": python, "python_full_version": f"{python}.0"})


def test_make_lists_its_targets(root):
  listed = make(root).stdout
  phony = re.search(r"\.PHONY: (.+)", (root / "Makefile").read_text())[1].split()
  assert {line.split()[1] for line in listed.splitlines()} == set(phony)


def test_make_refuses_an_old_python_by_name(root, tmp_path):
  done = make(root, f"{tmp_path}/venv/bin/python", f"VENV={tmp_path}/venv", "PYTHON=/bin/false")
  assert done.returncode
  assert "vljax needs Python 3.11, 3.12 or 3.13; tried: /bin/false." in done.stderr


def test_quickstart_runs_the_ordinary_program(root):
  planned = make(root, "-n", "quickstart").stdout
  assert "launch/train.py --config=configs/contrastive/clip_quickstart.py --workdir=runs/quickstart" in planned
  assert (root / "configs/contrastive/clip_quickstart.py").exists()


@pytest.mark.parametrize("python", PYTHONS)
def test_pins_lie_within_the_supported_ranges(root, python):
  core, extras = setup_lists(root)
  pinned = pins(root, "constraints.txt")
  for text in [*core, *extras["dev"]]:
    requirement = Requirement(text)
    versions = [v for marker, v in pinned[normal(requirement.name)] if applies(marker, python)]
    assert len(versions) == 1, f"{requirement.name} has no one version for Python {python}"
    assert requirement.specifier.contains(versions[0]), f"{text} does not admit the pinned {versions[0]}"


def test_floors_and_ceilings(root):
  core, extras = setup_lists(root)
  for text in [*core, *(t for name, list_ in extras.items() if name != "dev" for t in list_)]:
    assert ">=" in text, f"{text} has no floor"
  for text in core:
    assert "<" in text or text.startswith("regex"), f"{text} has no ceiling"  # regex numbers its versions by date


def test_the_two_constraint_files_do_not_contradict(root):
  both = set(pins(root, "constraints.txt")) & set(pins(root, "constraints-parity.txt"))
  assert not both


@pytest.mark.slow
def test_benchmark_names_exist(root):
  code = "from benchmarks import run; print(*run.NAMES)"
  named = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
  assert all((root / f"benchmarks/{name}.py").exists() for name in named.stdout.split())
