import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

import ml_collections
import pytest

from vljax import config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
  lr: float = 1.0
  name: Literal["adamw", "sgd"] = "adamw"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schema:
  steps: int
  inner: Inner = Inner()
  groups: tuple[tuple[str, Inner], ...] = ()
  pair: tuple[int, int] = (0, 0)
  streams: Mapping[str, Inner] = dataclasses.field(default_factory=dict)
  clip: float | None = None
  norm: Literal["clip", "none"] | tuple[float, ...] = "clip"
  flag: bool = False
  free: Any = None


def parse(**values):
  return config.parse(ml_collections.ConfigDict(values), Schema)


def test_values_of_every_kind():
  parsed = parse(
    steps=3,
    inner=dict(lr=2),
    groups=[("a", dict(name="sgd")), ("b", dict())],
    pair=[1, 2],
    streams=dict(train=dict(lr=0.5)),
    clip=1,
    norm=[0.5, 1],
    flag=True,
    free={"x": [1]},
  )
  assert parsed == Schema(
    steps=3,
    inner=Inner(lr=2.0),
    groups=(("a", Inner(name="sgd")), ("b", Inner())),
    pair=(1, 2),
    streams={"train": Inner(lr=0.5)},
    clip=1.0,
    norm=(0.5, 1.0),
    flag=True,
    free=parsed.free,
  )
  assert isinstance(parsed.inner.lr, float)
  assert isinstance(parsed.clip, float)
  assert config.parse(parsed, Schema) is parsed
  assert parse(steps=1, clip=None).clip is None


ERRORS = [
  (
    dict(steps=1, stepz=2),
    "unknown key 'config.stepz'; did you mean 'steps'? legal: clip, flag, free, groups, inner, ",
  ),
  (dict(steps=1, inner=dict(lrr=1.0)), "unknown key 'config.inner.lrr'; did you mean 'lr'? legal: lr, name"),
  (dict(steps=1, zzz=2), "unknown key 'config.zzz'; legal: clip, flag, "),
  (dict(), "'config.steps' is missing; Schema needs it"),
  (dict(steps="3"), "config.steps = '3' is of type str; legal: int"),
  (dict(steps=True), "config.steps = True is of type bool; legal: int"),
  (dict(steps=1.5), "config.steps = 1.5 is of type float; legal: int"),
  (
    dict(steps=1, inner=dict(name="adam")),
    "unknown value config.inner.name = 'adam'; did you mean 'adamw'? legal: adamw, sgd",
  ),
  (dict(steps=1, inner=3), "config.inner = 3 is not a mapping with the keys of Inner"),
  (dict(steps=1, pair=(1, 2, 3)), "config.pair = (1, 2, 3) has 3 items; legal: 2"),
  (dict(steps=1, pair=7), "config.pair = 7 is not a list"),
  (dict(steps=1, groups=[("a", dict(lr="x"))]), "config.groups[0][1].lr = 'x' is of type str; legal: float"),
  (dict(steps=1, streams=[1]), "config.streams = [1] is not a mapping"),
  (dict(steps=1, streams=dict(train=dict(lx=1))), "unknown key 'config.streams.train.lx'; did you mean 'lr'? legal: "),
  (dict(steps=1, clip="big"), "config.clip = 'big' is of type str; legal: float"),
  (
    dict(steps=1, norm="clipp"),
    "unknown value config.norm = 'clipp'; did you mean 'clip'? legal: clip, none; "
    "or config.norm = 'clipp' is not a list",
  ),
  (dict(steps=1, flag=1), "config.flag = 1 is of type int; legal: bool"),
]


@pytest.mark.parametrize(("values", "message"), ERRORS, ids=[message[:40] for _, message in ERRORS])
def test_errors_name_the_key_the_value_and_what_is_legal(values, message):
  with pytest.raises(ValueError, match="^" + re.escape(message)):
    parse(**values)


def test_choose():
  assert config.choose("pool", "cls", {"cls": 1}) == 1
  with pytest.raises(ValueError, match=r"^unknown pool 'clss'; did you mean 'cls'\? legal: cls, mean$"):
    config.choose("pool", "clss", {"cls": 1, "mean": 0})


def test_to_dict_and_diff():
  a = Schema(steps=1, groups=(("a", Inner()),))
  b = Schema(steps=2, groups=(("a", Inner(lr=3.0)),), clip=1.0)
  assert config.to_dict(a)["groups"] == [["a", {"lr": 1.0, "name": "adamw"}]]
  assert config.diff(a, a) == {}
  assert config.diff(a, b) == {
    "steps": (1, 2),
    "groups": ([["a", {"lr": 1.0, "name": "adamw"}]], [["a", {"lr": 3.0, "name": "adamw"}]]),
    "clip": (None, 1.0),
  }
  assert config.diff({"a": {"b": 1}}, {"a": {"c": 2}}) == {"a.b": (1, None), "a.c": (None, 2)}
  assert config.to_dict(ml_collections.ConfigDict({"a": (1, 2)})) == {"a": [1, 2]}


FILE = """
import ml_collections
from configs import common
def get_config(arg=""):
  a = common.parse_arg(arg, steps=5, name="x", smoke=False)
  return ml_collections.ConfigDict(dict(steps=a.steps, name=a.name, smoke=a.smoke, inner=dict(lr=1.0), clip=None))
"""


@pytest.fixture
def file(tmp_path, root):
  folder = tmp_path / "configs"
  folder.mkdir()
  (folder / "common.py").write_text((root / "configs/common.py").read_text())
  (folder / "run.py").write_text(FILE)
  return str(folder / "run.py")


def test_load_with_arguments_and_overrides(file):
  loaded = config.load(
    f"{file}:steps=7,smoke", ["--config.inner.lr=2", "config.clip=0.5", "name=none", "new.key=(1, 2)"]
  )
  assert config.to_dict(loaded) == {
    "steps": 7, "name": None, "smoke": True, "inner": {"lr": 2}, "clip": 0.5, "new": {"key": [1, 2]},
  }  # fmt: skip
  with pytest.raises(AttributeError, match="is locked"):
    loaded.stepz = 3


def test_load_errors(file, tmp_path):
  raises = lambda message, kind=ValueError: pytest.raises(kind, match="^" + re.escape(message))
  with raises("unknown config argument 'step'; legal: name, smoke, steps"):
    config.load(f"{file}:step=7")
  with raises("config argument steps = 'many' is not of type int"):
    config.load(f"{file}:steps=many")
  with raises(f"config file '{tmp_path}/none.py' does not exist (looked for {tmp_path}/none.py)", FileNotFoundError):
    config.load(f"{tmp_path}/none.py")
  with raises("override '--config.steps' is not of the form config.key=value"):
    config.load(file, ["--config.steps"])
  with raises("override 'steps.more=1': config.steps = 5 has no keys"):
    config.load(file, ["steps.more=1"])
  (tmp_path / "empty.py").write_text("")
  with raises(f"config file '{tmp_path}/empty.py' defines no get_config(argument)"):
    config.load(f"{tmp_path}/empty.py")
  (tmp_path / "dict.py").write_text("def get_config():\n  return dict(steps=1)")
  with raises(f"get_config of config file '{tmp_path}/dict.py' gives a value of type dict; legal: an ml_collections."):
    config.load(f"{tmp_path}/dict.py", ["steps=2"])
  (tmp_path / "readme.md").write_text("")
  with raises(f"config file '{tmp_path}/readme.md' is no Python file"):
    config.load(f"{tmp_path}/readme.md")
  with raises("unknown flag '--workdri=x'; legal: --config.KEY=VALUE"):
    config.load(file, ["--workdri=x"])
