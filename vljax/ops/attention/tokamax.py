"""tokamax's fused attention: Mosaic and Triton kernels on GPUs, splash attention on TPUs (package `tokamax`)."""

import importlib

import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.ops.attention.call import Call
from vljax.ops.attention.masks import Masks, visible


def refusal(call: Call) -> str | None:
  """Why tokamax has no fused kernel for this call; None if it has."""
  given = ", ".join(sorted([*(call.masks - {"causal"}), *(["bias"] if call.bias else [])]))
  if not call.device.tokamax:
    return "the package tokamax is not installed; pip install 'vljax[tokamax]'"
  if call.device.platform == "cpu":
    return "it has no kernel for CPUs"
  if call.dtype not in ("bfloat16", "float16"):
    return f"its kernels take bfloat16 and float16, not {call.dtype}"
  if call.device.platform == "tpu" and given:
    return f"splash attention takes no bias and no mask of one example; found {given}"
  return None


def attend(
  query: Float[Array, "b t k d"],
  key: Float[Array, "b s g d"],
  value: Float[Array, "b s g d"],
  bias: Float[Array, "..."] | None,
  masks: Masks,
  scale: float,
) -> Float[Array, "b t k d"]:
  """Attends; causal goes to the kernel, other masks as one dense boolean broadcast over heads."""
  kernels = importlib.import_module("tokamax")
  t, s = query.shape[1], key.shape[1]
  only_causal = masks.kinds <= {"causal"}
  seen = None if only_causal else visible(masks, t, s)
  x = kernels.dot_product_attention(
    query, key, value, bias=bias, mask=None if seen is None else seen[:, None], scale=scale,
    is_causal=masks.causal and only_causal,
  )  # fmt: skip
  if seen is None:
    return x
  return jnp.where(seen.any(-1)[:, :, None, None], x, 0)
