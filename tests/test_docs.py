"""The documents say what is so: commands, flags, keys, names and links exist, and the site builds without network."""

import ast
import dataclasses
import importlib
import importlib.util
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from vljax import config, recipes, sweep, tree
from vljax.train.run import Run, Stream

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PLACEHOLDER = re.compile(r"(?<![A-Za-z])[A-Z]{3,}(?![A-Za-z])")


def blocks(page: pathlib.Path, *languages: str) -> list[str]:
  return [body for language, body in FENCE.findall(page.read_text()) if language in languages]


def commands() -> list[tuple[str, list[str]]]:
  """(page, words) of every line in a bash block, backslash continuations joined."""
  lines = [
    (page.name, line.split(" #")[0])
    for page in PAGES
    for block in blocks(page, "bash", "sh")
    for line in block.replace("\\\n", " ").splitlines()
  ]
  return [(page, shlex.split(line)) for page, line in lines if line.strip() and not line.startswith("#")]


def program(words: list[str]) -> str | None:
  return next((w for w in words if re.fullmatch(r"launch/\w+\.\w+", w)), None)


def flags_of(path: pathlib.Path) -> set[str]:
  """The flags that a program defines, by absl or argparse."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    if re.search(r"\b(DEFINE_\w+|add_argument)$", name):
      found |= {a.value.lstrip("-") for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
  return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_import_what_exists(page):
  for block in blocks(page, "python"):
    for node in ast.walk(ast.parse(block)):
      if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vljax":
        module = importlib.import_module(node.module)
        for alias in node.names:
          nested = importlib.util.find_spec(f"{node.module}.{alias.name}") if hasattr(module, "__path__") else None
          assert hasattr(module, alias.name) or nested, f"{page.name}: {node.module}.{alias.name}"


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda x: x if isinstance(x, str) else " ".join(x[:3]))
def test_commands_name_what_exists(page, words):
  if words[0] == "make":
    targets = re.search(r"\.PHONY: (.+)", (ROOT / "Makefile").read_text())[1].split()
    assert all(w in targets for w in words[1:] if "=" not in w), words
  if not (path := program(words)):
    return
  assert (ROOT / path).exists(), path
  after = words[words.index(path) + 1 :]
  if not path.endswith(".py"):
    path = "launch/train.py"
  used = {w[2:].partition("=")[0].partition(".")[0] for w in after if w.startswith("--") and w != "--"}
  assert used <= flags_of(ROOT / path), f"{page}: {path} has no flags {used - flags_of(ROOT / path)}"


@pytest.mark.parametrize("words", [w for _, w in commands() if program(w)], ids=lambda w: " ".join(w[1:3]))
def test_commands_set_keys_that_exist(words):
  named = [w.removeprefix("--config=") for w in words if w.startswith("--config=")]
  if not named or PLACEHOLDER.search(named[0]):
    return
  assert recipes.parse(config.load(str(ROOT / named[0]), [w for w in words if w.startswith("--config.")]))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_are_named_exist(page):
  text = page.read_text()
  for name in re.findall(r"`((?:configs|launch|tests|docs|notebooks|benchmarks|vljax)/[\w/.-]+)`", text):
    assert PLACEHOLDER.search(name) or (ROOT / name).exists(), f"{page.name} names {name}"
  for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
    assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("recipe", [None, *recipes.RECIPES])
def test_every_key_of_a_config_is_documented(recipe):
  """In the section of its recipe: the keys that every run has, or those that the recipe adds or says anew."""
  pages = re.split(r"^## ", (ROOT / "docs/configs.md").read_text(), flags=re.MULTILINE)
  sections = dict(page.split("\n", 1) for page in pages)
  if recipe is None:
    title, keys = "Keys of every config", {f.name for schema in (Run, Stream) for f in dataclasses.fields(schema)}
  else:
    title, keys = f"Keys of `{recipe}`", set(importlib.import_module(recipes.RECIPES[recipe]).Config.__annotations__)
  assert {key for key in keys if f"`{key}`" not in sections[title]} == set()


def test_the_front_page_lists_all_others():
  text = (ROOT / "docs/index.md").read_text()
  assert set(re.findall(r"^- \[.+?\]\((.+?)\): ", text, re.MULTILINE)) == {
    p.name for p in PAGES if p.parent.name == "docs" and p.name != "index.md"
  }


def test_tables_of_a_paper_are_those_of_its_sweeps(monkeypatch):
  monkeypatch.chdir(ROOT)
  file = "configs/ablations/simclr.py"
  remake = f"python launch/sweep.py --sweep={file} --paper > docs/simclr_tables.md"
  assert (ROOT / "docs/simclr_tables.md").read_text() == sweep.page(file), remake


def test_every_kind_of_source_is_documented():
  from vljax.data import sources

  text = (ROOT / "docs/data.md").read_text()
  assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(sources.KINDS)


@pytest.mark.slow
def test_parameter_counts_are_those_of_the_models():
  from vljax.models import dual_encoder, fitting

  rows = re.findall(r"^\| `([\w-]+)` \|.*\| ([\d,]+) \|$", (ROOT / "docs/contrastive.md").read_text(), re.MULTILINE)
  assert {name for name, _ in rows} == set(dual_encoder.VARIANTS) - {"test", "small"}
  for name, count in rows:
    assert f"{tree.count(fitting.abstract(dual_encoder.build(name))):,}" == count, name


def test_the_site_builds_and_fetches_nothing(tmp_path):
  pytest.importorskip("mkdocs")
  command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
  built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert built.returncode == 0, built.stdout + built.stderr
  for html in tmp_path.rglob("*.html"):
    fetched = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"((?:https?:)?//[^\"]+)", html.read_text())
    assert not fetched, f"{html.name} loads {fetched}"
