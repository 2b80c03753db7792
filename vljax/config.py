"""Configs: files that return a ConfigDict, schemas that check it, errors that name the nearest legal key."""

import ast
import dataclasses
import difflib
import importlib.util
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import ml_collections
from etils import epath

T = TypeVar("T")

RANGES: Mapping[str, Callable[[Any], bool]] = {
  "0 or more": lambda x: x >= 0,
  "1 or more": lambda x: x >= 1,
  "finite, 0 or more": lambda x: 0 <= x < math.inf,
  "finite, above 0": lambda x: 0 < x < math.inf,
  "above 0, or None": lambda x: x is None or x > 0,
  "0 to 1": lambda x: 0 <= x <= 1,
  "0 or more, below 1": lambda x: 0 <= x < 1,
}
"""What numbers may be, in the words of the error; NaN is none of it."""


def load(spec: str, overrides: Iterable[str] = ()) -> ml_collections.ConfigDict:
  """The config of `path.py` or `path.py:argument`, with `a.b=value` overrides applied and keys locked.

  An override may set any key, also one that the file leaves at its default: `parse` knows which keys are legal.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no Python file, has no `get_config` that gives a ConfigDict, or an override is not of
      the form key=value.
  """
  file, _, argument = spec.partition(":")
  module = execute(file, "config")
  if not hasattr(module, "get_config"):
    raise ValueError(f"config file {file!r} defines no get_config(argument)")
  config = module.get_config(argument) if argument else module.get_config()
  if not isinstance(config, ml_collections.ConfigDict):
    raise ValueError(
      f"get_config of config file {file!r} gives a value of type {type(config).__name__}; legal: an "
      f"ml_collections.ConfigDict"
    )
  for item in overrides:
    _override(config, item)
  return config.lock()


def execute(file: str, kind: str) -> types.ModuleType:
  """Run a Python file of `configs`, which may import others of them; `kind` is what errors call it.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no Python file.
  """
  path = epath.Path(file).resolve()
  if not path.exists():
    raise FileNotFoundError(f"{kind} file {file!r} does not exist (looked for {path})")
  spec = importlib.util.spec_from_file_location(f"{kind}_{path.stem}", path)
  if spec is None:
    raise ValueError(f"{kind} file {file!r} is no Python file")
  module = importlib.util.module_from_spec(spec)
  sys.path.insert(0, str(_root_of(path)))
  try:
    spec.loader.exec_module(module)
  finally:
    sys.path.pop(0)
  return module


def parse(config: Any, schema: type[T], where: str = "config") -> T:
  """A frozen dataclass from a mapping: every key known, every value of the annotated type.

  Dataclass fields nest; `X | None`, `Literal`, `tuple[X, ...]`, `Mapping[str, X]` and `Any` mean what they say; an
  int is taken for a float. Keys absent from the mapping take the dataclass's default.

  Raises:
    ValueError: an unknown key (with the nearest legal one), a missing key, or a value of a wrong type.
  """
  if isinstance(config, schema):
    return config
  if not isinstance(config, Mapping | ml_collections.ConfigDict):
    raise ValueError(f"{where} = {config!r} is not a mapping with the keys of {schema.__name__}")
  hints = typing.get_type_hints(schema)
  fields = {f.name: f for f in dataclasses.fields(schema) if f.init}
  for key in config:
    if key not in fields:
      raise ValueError(unknown(f"key '{where}.{key}'", key, fields))
  values = {}
  for name, field in fields.items():
    if name in config:
      values[name] = _convert(config[name], hints[name], f"{where}.{name}")
    elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
      raise ValueError(f"'{where}.{name}' is missing; {schema.__name__} needs it")
  return schema(**values)


def unknown(what: str, name: Any, legal: Iterable[str]) -> str:
  """The one sentence for a misspelt name: what was found, the nearest legal name, and all of them."""
  legal = sorted(map(str, legal))
  near = difflib.get_close_matches(str(name), legal, 1, 0.5)
  hint = f"; did you mean {near[0]!r}?" if near else ";"
  return f"unknown {what}{hint} legal: {', '.join(legal)}"


def choose(what: str, name: Any, options: Mapping[str, T]) -> T:
  """`options[name]`, or a ValueError with the nearest legal name."""
  if name not in options:
    raise ValueError(unknown(f"{what} {name!r}", name, options))
  return options[name]


def check_ranges(where: str, values: Any, **ranges: str) -> None:
  """Raise unless each named field of a schema's instance lies in its range, a key of `RANGES`.

  Raises:
    ValueError: naming the key, the value and the range.
  """
  for name, legal in ranges.items():
    value = getattr(values, name)
    if not RANGES[legal](value):
      raise ValueError(f"{where}.{name} = {value}; legal: {legal}")


def to_dict(value: Any) -> Any:
  """Plain dicts, lists and scalars, fit for JSON, of a ConfigDict or of a schema's instance."""
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
  if isinstance(value, ml_collections.ConfigDict | Mapping):
    return {k: to_dict(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [to_dict(v) for v in value]
  return value


def diff(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
  """Dotted key to (value in a, value in b) for each key whose values differ; an absent one is shown as None."""
  flat_a, flat_b = _flat(to_dict(a)), _flat(to_dict(b))
  keys = [*flat_a, *(k for k in flat_b if k not in flat_a)]
  return {k: (flat_a.get(k), flat_b.get(k)) for k in keys if flat_a.get(k) != flat_b.get(k)}


def _root_of(path: epath.Path) -> epath.Path:
  """The folder that holds `configs/`, so that a config file can import configs.common; else the file's own."""
  return next((p.parent for p in path.parents if p.name == "configs"), path.parent)


def _override(config: ml_collections.ConfigDict, item: str) -> None:
  if item.startswith("--") and not item.startswith("--config."):
    raise ValueError(f"unknown flag {item!r}; legal: --config.KEY=VALUE")
  key, equals, text = item.removeprefix("--").removeprefix("config.").partition("=")
  if not equals:
    raise ValueError(f"override {item!r} is not of the form config.key=value")
  node = config
  *parents, last = key.split(".")
  for i, part in enumerate(parents):
    if node.get(part) is None:
      with node.unlocked():
        node[part] = ml_collections.ConfigDict()
    node = node[part]
    if not isinstance(node, ml_collections.ConfigDict):
      raise ValueError(f"override {item!r}: config.{'.'.join(parents[: i + 1])} = {node!r} has no keys")
  with node.unlocked(), node.ignore_type():
    node[last] = _literal(text)


def _literal(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _convert(value: Any, hint: Any, where: str) -> Any:
  if hint is Any:
    return value
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if origin in (types.UnionType, typing.Union):
    return _convert_union(value, args, where)
  if origin is typing.Literal:
    if value not in args:
      raise ValueError(unknown(f"value {where} = {value!r}", str(value), args))
    return value
  if dataclasses.is_dataclass(hint):
    return parse(value, hint, where)
  if origin is tuple:
    return _convert_tuple(value, args, where)
  if origin is not None and issubclass(origin, Mapping):
    if not isinstance(value, Mapping | ml_collections.ConfigDict):
      raise ValueError(f"{where} = {value!r} is not a mapping")
    return {k: _convert(v, args[1], f"{where}.{k}") for k, v in value.items()}
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if not isinstance(value, hint) or (isinstance(value, bool) and hint is int):
    raise ValueError(f"{where} = {value!r} is of type {type(value).__name__}; legal: {hint.__name__}")
  return value


def _convert_union(value: Any, options: tuple, where: str) -> Any:
  if value is None and type(None) in options:
    return None
  rest = [o for o in options if o is not type(None)]
  errors = []
  for option in rest:
    try:
      return _convert(value, option, where)
    except ValueError as error:
      errors.append(error)
  raise errors[0] if len(rest) == 1 else ValueError("; or ".join(map(str, errors)))


def _convert_tuple(value: Any, args: tuple, where: str) -> tuple:
  if not isinstance(value, list | tuple):
    raise ValueError(f"{where} = {value!r} is not a list")
  if len(args) == 2 and args[1] is Ellipsis:
    return tuple(_convert(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
  if args and len(args) != len(value):
    raise ValueError(f"{where} = {value!r} has {len(value)} items; legal: {len(args)}")
  return tuple(_convert(v, a, f"{where}[{i}]") for i, (v, a) in enumerate(zip(value, args, strict=True)))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
  if not isinstance(value, dict) or not value:
    return {prefix: value}
  return {k: v for name, sub in value.items() for k, v in _flat(sub, f"{prefix}.{name}" if prefix else name).items()}
