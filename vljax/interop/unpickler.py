"""An interpreter of pickles that can only ever make tensors, containers and plain values.

It never imports a name from the file and never calls one: a global is looked up in `GLOBALS`, and one that is not
there is an error. The opcodes are parsed by the standard library's `pickletools`, which executes nothing.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

MARK = object()
MAX_EXPANDED = 2**24
"""How many elements a tensor that is larger than its storage (a broadcast) may have."""

DTYPES = {
  "float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16,
  "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64, "uint8": np.uint8, "bool": np.bool_,
  "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64, "complex64": np.complex64,
  "complex128": np.complex128, "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
"""Torch's dtype names, as numpy's types."""

STORAGES = {
  "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
  "CharStorage": "int8", "ShortStorage": "int16", "IntStorage": "int32", "LongStorage": "int64",
  "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
  "ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8",
}  # fmt: skip
"""Torch's storage classes, as the names of their dtypes."""

LAZY: dict[str, Callable[..., Any]] = {"conj": np.conjugate, "neg": np.negative}
"""What torch may only note in a tensor's metadata: its data are stored as they were before."""


@dataclasses.dataclass(frozen=True)
class Storage:
  """The elements of one storage; its bytes are read when a tensor asks for them."""

  dtype: np.dtype
  count: int
  read: Callable[[], memoryview | bytes]


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A strided view of a storage, not read yet."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]
  dtype: np.dtype
  lazy: tuple[str, ...] = ()

  def array(self) -> np.ndarray:
    """The elements as a contiguous array of native byte order.

    Raises:
      ValueError: the view reaches outside its storage, is a huge broadcast, or negates what has no sign.
    """
    data, width = self.storage.read(), self.dtype.itemsize
    if len(data) % width:
      raise ValueError(f"a storage of {len(data)} bytes is not a whole number of {self.dtype} elements")
    count = len(data) // width
    size = int(np.prod(np.array(self.shape, dtype=object))) if self.shape else 1
    last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
    if size and last >= count:
      raise ValueError(f"a tensor of shape {self.shape} reaches element {last} of a storage of {count}")
    if size > max(count, MAX_EXPANDED):
      raise ValueError(f"a tensor of shape {self.shape} is far larger than its storage of {count} elements")
    if not size:
      return np.zeros(self.shape, self.dtype.newbyteorder("="))
    steps = [s * width if n > 1 else 0 for n, s in zip(self.shape, self.strides, strict=True)]
    view = np.ndarray(self.shape, self.dtype, buffer=data, offset=self.offset * width, strides=steps)
    array = view.astype(self.dtype.newbyteorder("="), order="C")
    for name in self.lazy:
      if array.dtype.kind == "b" or (name == "conj" and array.dtype.kind != "c"):
        raise ValueError(f"a tensor of {array.dtype} has the metadata {name!r}")
      LAZY[name](array, out=array)
    return array


@dataclasses.dataclass
class Bare:
  """An object of a TorchScript class, of which only the attributes are kept."""

  attributes: dict = dataclasses.field(default_factory=dict)


class Built:
  """An object that a reader makes empty and that takes its content from the pickle's BUILD."""

  def build(self, state: Any) -> None:
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Global:
  """A name of `GLOBALS`: what calling it makes, or None for a name that is only an argument."""

  name: str
  call: Callable[..., Any] | None = None
  value: Any = None


def _size(value: Any, what: str) -> tuple[int, ...]:
  if not isinstance(value, tuple | list) or not all(type(n) is int and 0 <= n < 2**62 for n in value):
    raise ValueError(f"{what} of a tensor is not a tuple of natural numbers")
  if len(value) > 32:
    raise ValueError(f"a tensor has {len(value)} axes")
  return tuple(value)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, grad: Any = None, hooks: Any = None,
            metadata: Any = None) -> Tensor:  # fmt: skip
  if not isinstance(storage, Storage):
    raise ValueError(f"a tensor's storage is a {type(storage).__name__}")
  (offset,) = _size((offset,), "the offset")
  shape, strides = _size(shape, "the shape"), _size(strides, "the strides")
  if len(shape) != len(strides):
    raise ValueError(f"a tensor has shape {shape} and strides {strides}")
  metadata = {} if metadata is None else metadata
  if not isinstance(metadata, dict) or not LAZY.keys() >= metadata.keys():
    found = [*metadata] if isinstance(metadata, dict) else f"a {type(metadata).__name__}"
    raise ValueError(f"a tensor's metadata are {found}; legal: a dict with {', '.join(LAZY)}")
  return Tensor(storage, offset, shape, strides, storage.dtype, tuple(name for name in metadata if metadata[name]))


def _tensor_of_dtype(storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any,
                     metadata: Any = None) -> Tensor:  # fmt: skip
  tensor = _tensor(storage, offset, shape, strides, grad, hooks, metadata)
  if not isinstance(dtype, Global) or not isinstance(dtype.value, np.dtype):
    raise ValueError(f"a tensor's dtype is a {type(dtype).__name__}")
  return dataclasses.replace(tensor, dtype=dtype.value.newbyteorder(tensor.dtype.byteorder))


def _parameter(tensor: Any, *rest: Any) -> Tensor:
  if not isinstance(tensor, Tensor):
    raise ValueError(f"a parameter holds a {type(tensor).__name__}")
  return tensor


def _dict(items: Any = ()) -> dict:
  return {_key(k): v for k, v in items}


def _key(key: Any) -> Any:
  if not isinstance(key, str | int | float | bool | None):
    raise ValueError(f"a dict has a key of type {type(key).__name__}; legal: str, int, float, bool, None")
  return key


GLOBALS: dict[str, Global] = {
  g.name: g
  for g in [
    Global("collections.OrderedDict", _dict),
    Global("torch.Size", lambda n: _size(n, "the size")),
    Global("torch.device", lambda *names: None),
    Global("torch._utils._rebuild_tensor", _tensor),
    Global("torch._utils._rebuild_tensor_v2", _tensor),
    Global("torch._utils._rebuild_tensor_v3", _tensor_of_dtype),
    Global("torch._utils._rebuild_parameter", _parameter),
    Global("torch._utils._rebuild_parameter_with_state", _parameter),
    *(Global(f"torch.jit._pickle.build_{kind}list", list) for kind in ("int", "tensor", "double", "bool")),
    Global("torch.jit._pickle.restore_type_tag", lambda value, tag: value),
    *(Global(f"torch.{name}", value=np.dtype(dtype)) for name, dtype in DTYPES.items()),
    *(Global(f"{module}.{name}", value=np.dtype(DTYPES[dtype]))
      for module in ("torch", "torch.storage", "torch.cuda") for name, dtype in STORAGES.items()),
  ]
}  # fmt: skip
"""Everything that a file may name."""


def loads(file: Any, storage: Callable[..., Storage], *, extra: Mapping[str, Global] | None = None,
          script: bool = False) -> Any:  # fmt: skip
  """The value of the one pickle at the file's position, which is left behind its STOP.

  Args:
    storage: makes the Storage of a persistent id.
    extra: more globals.
    script: whether classes `__torch__.*` become `Bare` objects, as in TorchScript archives.

  Raises:
    ValueError: the pickle names a class or uses an opcode that no tensor needs, or is broken.
  """
  machine = _Machine(storage, {**GLOBALS, **(extra or {})}, script)
  for opcode, argument, _ in pickletools.genops(file):
    machine.run(opcode.name, argument)
  if len(machine.stack) != 1:
    raise ValueError(f"the pickle leaves {len(machine.stack)} values, not one")
  return machine.stack[0]


class _Machine:
  """The stack machine; one method per opcode that does work."""

  def __init__(self, storage: Callable[..., Storage], legal: Mapping[str, Global], script: bool):
    self.stack: list = []
    self.memo: dict[int, Any] = {}
    self.storage, self.legal, self.script = storage, legal, script

  def run(self, name: str, argument: Any) -> None:
    if name in _IGNORED:
      return
    if name in _VALUES:
      self.stack.append(argument)
    elif name in _CONSTANTS:
      self.stack.append(_CONSTANTS[name]())
    elif name in _OPS:
      _OPS[name](self, argument)
    else:
      raise ValueError(f"the pickle uses the opcode {name}, which no tensor needs")

  def pop(self) -> Any:
    if not self.stack or self.stack[-1] is MARK:
      raise ValueError("the pickle takes a value from an empty stack")
    return self.stack.pop()

  def top(self) -> Any:
    if not self.stack:
      raise ValueError("the pickle looks at an empty stack")
    return self.stack[-1]

  def pop_mark(self) -> list:
    at = next((i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is MARK), None)
    if at is None:
      raise ValueError("the pickle looks for a mark that is not there")
    items = self.stack[at + 1 :]
    del self.stack[at:]
    return items

  def find(self, module: Any, name: Any) -> None:
    full = f"{module}.{name}"
    if self.script and full.startswith("__torch__."):
      self.stack.append(Global(full, lambda *args: Bare()))
    elif full in self.legal:
      self.stack.append(self.legal[full])
    else:
      raise ValueError(f"refused: the pickle names the class {full!r}, and only tensors and plain containers are read")

  def call(self, arguments: Any) -> None:
    function = self.pop()
    if not isinstance(function, Global) or function.call is None or not isinstance(arguments, tuple):
      raise ValueError(f"the pickle calls a {type(function).__name__} with a {type(arguments).__name__}")
    try:
      self.stack.append(function.call(*arguments))
    except TypeError as error:
      raise ValueError(f"the pickle calls {function.name} with {len(arguments)} wrong arguments") from error

  def tuple(self, count: int) -> None:
    items = [self.pop() for _ in range(count)]
    self.stack.append(tuple(reversed(items)))

  def put(self, index: int | None) -> None:
    self.memo[len(self.memo) if index is None else index] = self.top()

  def get(self, index: int) -> None:
    if index not in self.memo:
      raise ValueError(f"the pickle asks for the memo {index}, which is not there")
    self.stack.append(self.memo[index])

  def extend(self, items: list) -> None:
    target = self.top()
    if not isinstance(target, list):
      raise ValueError(f"the pickle appends to a {type(target).__name__}")
    target.extend(items)

  def update(self, items: list) -> None:
    target = self.top()
    if not isinstance(target, dict) or len(items) % 2:
      raise ValueError(f"the pickle sets items of a {type(target).__name__}")
    target.update(zip(map(_key, items[::2]), items[1::2], strict=True))

  def build(self, state: Any) -> None:
    target = self.top()
    if isinstance(target, Bare) and isinstance(state, dict):
      target.attributes.update(state)
    elif isinstance(target, Built):
      target.build(state)
    elif not isinstance(target, dict | Tensor):
      raise ValueError(f"the pickle sets the state of a {type(target).__name__}")

  def persistent(self) -> None:
    name = self.pop()
    if not isinstance(name, tuple) or len(name) < 5 or name[0] != "storage":
      raise ValueError("the pickle's persistent id is not a storage")
    _, kind, key, _, count, *rest = name
    if not isinstance(kind, Global) or not isinstance(kind.value, np.dtype) or type(count) is not int or count < 0:
      raise ValueError("the pickle's storage has no type or no size")
    self.stack.append(self.storage(kind.value, str(key), count, *rest))


_IGNORED = {"PROTO", "FRAME", "STOP"}
_VALUES = {
  "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
  "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
  "BINUNICODE8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
  "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple, "EMPTY_LIST": list,
  "EMPTY_DICT": dict, "MARK": lambda: MARK,
}  # fmt: skip
_OPS: dict[str, Callable[[_Machine, Any], Any]] = {
  "GLOBAL": lambda m, arg: m.find(*arg.split(" ", 1)),
  "STACK_GLOBAL": lambda m, _: m.find(*reversed((m.pop(), m.pop()))),
  "REDUCE": lambda m, _: m.call(m.pop()),
  "NEWOBJ": lambda m, _: m.call(m.pop()),
  "BUILD": lambda m, _: m.build(m.pop()),
  "BINPERSID": lambda m, _: m.persistent(),
  "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_mark())),
  "TUPLE1": lambda m, _: m.tuple(1),
  "TUPLE2": lambda m, _: m.tuple(2),
  "TUPLE3": lambda m, _: m.tuple(3),
  "LIST": lambda m, _: m.stack.append(m.pop_mark()),
  "DICT": lambda m, _: (m.stack.append({}), m.update(m.pop_mark())),
  "APPEND": lambda m, _: m.extend([m.pop()]),
  "APPENDS": lambda m, _: m.extend(m.pop_mark()),
  "SETITEM": lambda m, _: m.update([*reversed((m.pop(), m.pop()))]),
  "SETITEMS": lambda m, _: m.update(m.pop_mark()),
  "POP": lambda m, _: m.pop(),
  "POP_MARK": lambda m, _: m.pop_mark(),
  "DUP": lambda m, _: m.stack.append(m.top()),
  "MEMOIZE": lambda m, _: m.put(None),
  "PUT": lambda m, arg: m.put(arg),
  "BINPUT": lambda m, arg: m.put(arg),
  "LONG_BINPUT": lambda m, arg: m.put(arg),
  "GET": lambda m, arg: m.get(arg),
  "BINGET": lambda m, arg: m.get(arg),
  "LONG_BINGET": lambda m, arg: m.get(arg),
}
