"""What an import costs: no backend, no rival framework, no noticeable time."""

import pkgutil
import subprocess
import sys

import pytest

import vljax


def python(code: str, root) -> str:
  done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_import_takes_no_time_and_starts_no_backend(root):
  code = (
    "import sys, time; start = time.perf_counter(); import vljax; seconds = time.perf_counter() - start;"
    "assert 'jax' not in sys.modules; print(seconds)"
  )
  assert float(python(code, root)) < 1.0


@pytest.mark.slow
def test_no_module_starts_a_backend_or_needs_a_rival_framework(root):
  names = [m.name for m in pkgutil.walk_packages(vljax.__path__, "vljax.")]
  assert "vljax.config" in names
  code = (
    "import importlib, sys\n"
    "class Refuse:\n"
    "  def find_spec(self, name, path=None, target=None):\n"
    "    if name.partition('.')[0] in ('torch', 'tensorflow'): raise ImportError(f'{name} is not to be imported')\n"
    "sys.meta_path.insert(0, Refuse())\n"
    f"for name in {names!r}: importlib.import_module(name)\n"
    "from jax._src import xla_bridge\n"
    "assert not xla_bridge.backends_are_initialized(), 'a module computes when imported'\n"
  )
  python(code, root)


@pytest.mark.slow
def test_hub_is_an_attribute(root):
  python("import vljax; assert callable(vljax.hub.load)", root)


def test_unknown_attribute_is_named():
  with pytest.raises(AttributeError, match="no attribute 'hbu'"):
    vljax.hbu  # noqa: B018
