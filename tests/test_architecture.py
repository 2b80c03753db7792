"""The house rules that a parser can check: what may import what, and what a file may hold."""

import ast
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# Lowest floor first. A module imports from lower floors, from its own package, and from the same floor leftwards.
FLOORS = (
  ("types", "tree", "config"),
  ("ops", "parallel"),
  ("objectives", "layers", "data"),
  ("models",),
  ("checkpoint", "interop", "generate"),
  ("evaluate", "train"),
  ("recipes",),
  (
    "language", "flamingo", "idefics", "chat", "hub", "plan", "report", "prepare", "convert", "encode", "experiment",
    "sweep", "program",
  ),
)  # fmt: skip
WITHOUT_FLAX = ("types", "tree", "config", "ops", "parallel", "objectives", "data")
NEVER_AT_MODULE_LEVEL = ("torch", "tensorflow", "torchvision", "transformers", "open_clip", "timm")
# Raw files are read here and nowhere else: offset indices, tars, zip containers. The rest goes through epath.
MAY_OPEN = re.compile(r"data/sources/|interop/(?:\w+_)?reader")
CONFIGS_MAY_IMPORT = {"__future__", "dataclasses", "ml_collections", "configs.common", "configs"}
LONGEST_FILE = 600
LONGEST_PROGRAM = 120
# Modules that no test names, and what tests them instead.
TESTED_ELSEWHERE = {
  "types": "every signature",
}


def sources(folder: str) -> list[pathlib.Path]:
  return sorted(p for p in (ROOT / folder).rglob("*.py") if "__pycache__" not in p.parts)


def parse(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text(), str(path))


def imported(tree: ast.AST) -> set[str]:
  """Dotted names of what the statements below `tree` import; `from a import b` counts as `a.b`."""
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"line {node.lineno}: imports are absolute"
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  return names


def imported_at_module_level(tree: ast.Module) -> set[str]:
  """As `imported`, without what functions import when they are called."""

  class Strip(ast.NodeTransformer):
    def visit_FunctionDef(self, node):
      del node

    visit_AsyncFunctionDef = visit_FunctionDef

  return imported(Strip().visit(tree))


def rooms(tree: ast.AST) -> set[str]:
  """The first-level parts of vljax that the statements below `tree` import."""
  names = (name.split(".") for name in imported(tree))
  return {parts[1] for parts in names if parts[0] == "vljax" and len(parts) > 1 and not parts[1].startswith("__")}


def room_of(path: pathlib.Path) -> str:
  """`data` for vljax/data/sources/jsonl.py, `tree` for vljax/tree.py."""
  return path.relative_to(ROOT / "vljax").parts[0].removesuffix(".py")


def name_of(path: pathlib.Path) -> str:
  return str(path.relative_to(ROOT))


PLACES = {room: (floor, i) for floor, names in enumerate(FLOORS) for i, room in enumerate(names)}
MODULES = [p for p in sources("vljax") if p != ROOT / "vljax/__init__.py"]


def files() -> list[pathlib.Path]:
  """Every file of the repository that git tracks or would track."""
  listed = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
  )
  if listed.returncode:
    pytest.skip("not a git checkout")
  return [p for p in map(ROOT.joinpath, listed.stdout.splitlines()) if p.is_file()]


def texts() -> dict[str, str]:
  found = {}
  for path in files():
    try:
      found[name_of(path)] = path.read_text()
    except UnicodeDecodeError:
      continue
  return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path):
  room = room_of(path)
  assert room in PLACES, f"vljax/{room} has no place in FLOORS"
  for other in rooms(parse(path)) - {room}:
    assert other in PLACES, f"vljax.{other} has no place in FLOORS"
    assert PLACES[other] < PLACES[room], (
      f"{name_of(path)} on floor {PLACES[room][0]} imports vljax.{other} of floor {PLACES[other][0]}"
    )


def test_contributing_shows_the_floors():
  rows = re.findall(r"^\| (\d) \| ([^|]*) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
  assert tuple(tuple(re.findall(r"`(\w+)`", names)) for _, names in rows) == FLOORS


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) in WITHOUT_FLAX], ids=name_of)
def test_the_lower_floors_do_without_flax(path):
  assert not {n for n in imported(parse(path)) if n.split(".")[0] == "flax"}


@pytest.mark.parametrize("path", MODULES + sources("launch"), ids=name_of)
def test_no_rival_framework_at_module_level(path):
  assert not {n for n in imported_at_module_level(parse(path)) if n.split(".")[0] in NEVER_AT_MODULE_LEVEL}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_paths_are_epath(path):
  if MAY_OPEN.match(str(path.relative_to(ROOT / "vljax"))):
    return
  tree = parse(path)
  assert not {n for n in imported(tree) if n.startswith("os.path")}, "use etils.epath"
  for node in ast.walk(tree):
    bare_open = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    os_path = isinstance(node, ast.Attribute) and node.attr == "path" and ast.unparse(node.value) == "os"
    assert not bare_open, f"{name_of(path)}:{node.lineno} calls open(); use epath.Path(...).open()"
    assert not os_path, f"{name_of(path)}:{node.lineno} uses os.path; use etils.epath"


@pytest.mark.parametrize("path", sources("configs"), ids=name_of)
def test_configs_are_plain_data(path):
  names = imported_at_module_level(parse(path)) | imported(parse(path))
  if path == ROOT / "configs/common.py":
    assert not {n for n in names if n.split(".")[0] in ("vljax", "jax", "flax", "numpy")}
    return
  for name in names:
    assert name in CONFIGS_MAY_IMPORT or name.startswith(("ml_collections.", "configs.common.", "dataclasses.")), (
      f"{name_of(path)} imports {name}; configs import ml_collections and configs.common only"
    )


@pytest.mark.parametrize("path", sources("launch"), ids=name_of)
def test_programs_hold_no_logic(path):
  lines = len(path.read_text().splitlines())
  assert lines <= LONGEST_PROGRAM, f"{name_of(path)} has {lines} lines: what it does belongs in vljax/"
  assert not [n for n in ast.walk(parse(path)) if isinstance(n, ast.ClassDef)]


def test_no_file_is_named_utils():
  assert not [name_of(p) for p in files() if re.search(r"(^|_)utils?(_|\.|$)", p.name)]


@pytest.mark.parametrize("folder", ["vljax", "launch", "configs", "tests", "benchmarks"])
def test_files_are_short(folder):
  lengths = {name_of(p): len(p.read_text().splitlines()) for p in sources(folder)}
  assert not {name: n for name, n in lengths.items() if n > LONGEST_FILE}


def test_nothing_is_left_to_do():
  mark = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
  assert not {name for name, text in texts().items() if mark.search(text) and name.endswith((".py", ".md", ".sh"))}


def test_only_ci_knows_where_the_real_data_lies():
  folder = re.compile(r"(?:\.\.|/work)/sha" r"red\b")
  assert {name for name, text in texts().items() if folder.search(text)} <= {".ci/run"}


def has_mirror(path: pathlib.Path) -> bool:
  """Whether the module has a test file of its own, or its package, inside a room, has one."""
  parts = path.relative_to(ROOT / "vljax").with_suffix("").parts
  mirrors = [ROOT.joinpath("tests", *parts[:i], f"test_{parts[i]}.py") for i in range(len(parts) - 1, 0, -1)]
  return any(m.exists() for m in mirrors or [ROOT / f"tests/test_{parts[0]}.py"])


@pytest.mark.slow
def test_modules_have_tests():
  """Each module has its mirror, or a test imports it, or a neighbor of its package that is tested uses it."""
  dotted = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in MODULES if p.name != "__init__.py"}
  by_tests = set().union(*(imported(parse(p)) for p in sources("tests")))
  tested = {name for name, p in dotted.items() if has_mirror(p) or any(is_part(t, name) for t in by_tests)}
  package = lambda name: name.rpartition(".")[0]
  while True:
    uses = {(name, other) for name in tested for other in imported(parse(dotted[name])) | {name}}
    reached = {n for n in dotted for m, other in uses if package(m) == package(n) != "vljax" and is_part(other, n)}
    if reached <= tested:
      break
    tested |= reached
  assert sorted(set(dotted) - tested) == sorted(f"vljax.{name}" for name in TESTED_ELSEWHERE)


def is_part(name: str, module: str) -> bool:
  """Whether an imported dotted name is the module or something in it."""
  return name == module or name.startswith(f"{module}.")
