"""Which implementation runs a call: decided without the hardware."""

import dataclasses

import pytest

from vljax.ops.attention import Call, choose
from vljax.ops.attention.call import Device
from vljax.ops.attention.shapes import SHAPES

H100 = Device("gpu", 9.0)
CALL = Call(H100, "bfloat16", 8, 197, 197, 12, 12, 64)


def call(**changes):
  masks = changes.pop("masks", ())
  return dataclasses.replace(CALL, masks=frozenset(masks), **changes)


@pytest.mark.parametrize(
  ("changes", "name"),
  [
    ({}, "cudnn"),
    ({"masks": ["causal"]}, "cudnn"),
    ({"dtype": "float16"}, "cudnn"),
    ({"dim": 104}, "cudnn"),
    ({"dim": 256}, "cudnn"),
    ({"dtype": "float32"}, "xla"),
    ({"dim": 60}, "xla"),
    ({"dim": 264}, "xla"),
    ({"dim": 256, "device": Device("gpu", 8.0)}, "xla"),
    ({"device": Device("gpu", 7.0)}, "xla"),
    ({"bias": True}, "xla"),
    ({"masks": ["key_padding"]}, "xla"),
    ({"masks": ["causal", "offset"]}, "xla"),
    ({"bias": True, "device": Device("gpu", 9.0, tokamax=True)}, "tokamax"),
    ({"masks": ["media"], "device": Device("gpu", 9.0, tokamax=True)}, "tokamax"),
    ({"device": Device("gpu", 9.0, tokamax=True)}, "cudnn"),
    ({"dtype": "float32", "device": Device("gpu", 9.0, tokamax=True)}, "xla"),
    ({"device": Device("cpu", tokamax=True)}, "xla"),
    ({"device": Device("tpu", tokamax=True)}, "xla"),
    ({"device": Device("tpu", tokamax=True), "queries": 2048, "keys": 2048, "masks": ["causal"]}, "tokamax"),
    ({"device": Device("tpu", tokamax=True), "queries": 2048, "keys": 2048, "masks": ["segments"]}, "xla"),
    ({"device": Device("tpu"), "queries": 2048, "keys": 2048}, "xla"),
  ],
)
def test_choice(changes, name):
  assert choose(call(**changes)) == name


@pytest.mark.parametrize(
  ("changes", "name", "reason"),
  [
    ({"device": Device("cpu")}, "cudnn", "it needs an NVIDIA GPU; the platform is cpu"),
    ({"dtype": "float32"}, "cudnn", "it takes bfloat16 and float16, not float32"),
    ({"device": Device("gpu", 7.5)}, "cudnn", r"needs compute capability 8.0 \(Ampere\); found 7.5"),
    ({"dim": 60}, "cudnn", "the head dimension 60 is not a multiple of 8 up to 256"),
    ({"dim": 256, "device": Device("gpu", 8.0)}, "cudnn", "256 is not a multiple of 8 up to 128"),
    ({"bias": True, "queries": 198, "keys": 198}, "cudnn", "it would round the bias to bfloat16"),
    ({"masks": ["segments"]}, "cudnn", "queries and keys must be even; found 197 and 197"),
    ({}, "tokamax", "not installed; pip install 'vljax\\[tokamax\\]'"),
    ({"device": Device("cpu", tokamax=True)}, "tokamax", "it has no kernel for CPUs"),
    ({"device": Device("gpu", 9.0, True), "dtype": "float32"}, "tokamax", "bfloat16 and float16, not float32"),
    (
      {"device": Device("tpu", 0.0, True), "masks": ["media"], "bias": True},
      "tokamax",
      "found bias, media|media, bias",
    ),
  ],
)
def test_a_named_one_is_obeyed_or_says_why_not(changes, name, reason):
  with pytest.raises(ValueError, match=reason) as error:
    choose(call(**changes), name)
  assert f"attention implementation {name!r} cannot run here" in str(error.value)


def test_a_named_one_is_obeyed():
  assert choose(call(), "xla") == "xla"
  assert choose(call(), "reference") == "reference"
  assert choose(call(masks=["segments"], queries=198, keys=198), "cudnn") == "cudnn"


@pytest.mark.parametrize("name", SHAPES)
def test_every_real_shape_gets_a_fused_kernel_on_a_gpu(name):
  shape = SHAPES[name]
  masks = frozenset(["causal"] if shape.causal else [])
  found = choose(Call(H100, "bfloat16", 8, shape.queries, shape.keys, shape.heads, shape.kv_heads, shape.dim, masks))
  assert found == "cudnn"
