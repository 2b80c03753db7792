"""DeepMind's Haiku weights: a dict of modules, each a dict of arrays, pickled into a file that is called `.npz`.

A true `.npz` archive whose arrays are named `module/parameter` is read, too. No pickle is ever run.
"""

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vljax.interop import unpickler
from vljax.interop.unpickler import Built, Global


class _Array(Built):
  """A numpy array, made empty and filled by its state, or a numpy scalar, which comes whole."""

  value: np.ndarray | None = None

  def build(self, state: Any) -> None:
    _, shape, dtype, fortran, data = state
    self.fill(dtype, data, shape, "F" if fortran else "C")

  def fill(self, dtype: Any, data: Any, shape: Any = (), order: Any = "C") -> "_Array":
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
      raise ValueError("an array of the pickle holds no plain numbers")
    self.value = np.frombuffer(data, dtype.value).reshape(shape, order=order)
    return self


class _Dtype(Built):
  """A numpy dtype; its state says the order of its bytes."""

  def __init__(self, name: Any, align: Any = False, copy: Any = True):
    if not isinstance(name, str) or np.dtype(name).kind not in "biuf":
      raise ValueError(f"the pickle names the dtype {name!r}; legal: numbers")
    self.value = np.dtype(name)

  def build(self, state: Any) -> None:
    if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
      self.value = self.value.newbyteorder(state[1])


GLOBALS = {
  g.name: g
  for g in [
    *(Global(f"numpy.{core}.multiarray._reconstruct", lambda *arguments: _Array()) for core in ("core", "_core")),
    *(Global(f"numpy.{core}.multiarray.scalar", lambda *state: _Array().fill(*state)) for core in ("core", "_core")),
    Global("numpy.ndarray"),
    Global("numpy.dtype", _Dtype),
    Global("_codecs.encode", lambda text, encoding: text.encode("latin1")),
  ]
}
"""What pickled numpy arrays name; `_codecs.encode` gives the bytes of old protocols."""


def state_dict(path: epath.PathLike) -> dict[str, np.ndarray]:
  """`module/parameter` to array.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a broken file, or one that holds anything but arrays of numbers in dicts; names it.
  """
  path = epath.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist")
  data = path.read_bytes()
  try:
    if zipfile.is_zipfile(io.BytesIO(data)):
      with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return dict(archive)
    return _flat(unpickler.loads(io.BytesIO(data), _no_storage, extra=GLOBALS))
  except (ValueError, TypeError, LookupError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(f"{path}: {error}") from error


def write(path: epath.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
  """Write arrays named `module/parameter` as DeepMind does, so that `dill.load` and `pickle.load` read them."""
  modules: dict[str, dict[str, np.ndarray]] = {}
  for name, array in arrays.items():
    module, _, parameter = name.rpartition("/")
    modules.setdefault(module, {})[parameter] = array
  epath.Path(path).write_bytes(pickle.dumps(modules, protocol=4))


def _flat(modules: Any) -> dict[str, np.ndarray]:
  if not isinstance(modules, dict) or not all(isinstance(part, dict) for part in modules.values()):
    raise ValueError("it holds no dict of modules")
  found = {f"{module}/{name}": array for module, part in modules.items() for name, array in part.items()}
  for name, array in found.items():
    if not isinstance(array, _Array) or array.value is None:
      raise ValueError(f"{name!r} is a {type(array).__name__}, not an array")
  return {name: array.value for name, array in found.items()}


def _no_storage(*arguments: Any) -> Any:
  raise ValueError("it names a storage of torch")
