"""cuDNN's fused attention, through `jax.nn.dot_product_attention`: linear memory on NVIDIA GPUs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.ops.attention.call import Call
from vljax.ops.attention.masks import Masks, visible


def refusal(call: Call) -> str | None:
  """Why cuDNN cannot run this call; None if it can (jax 0.10, `jax/_src/cudnn/fused_attention_stablehlo.py`)."""
  widest = 256 if call.device.capability >= 9.0 else 128
  if call.device.platform != "gpu":
    return f"it needs an NVIDIA GPU; the platform is {call.device.platform}"
  if call.dtype not in ("bfloat16", "float16"):
    return f"it takes bfloat16 and float16, not {call.dtype}"
  if call.device.capability and call.device.capability < 8.0:
    return f"it needs compute capability 8.0 (Ampere); found {call.device.capability}"
  if call.dim % 8 or call.dim > widest:
    return f"the head dimension {call.dim} is not a multiple of 8 up to {widest}"
  if call.bias:
    return f"it would round the bias to {call.dtype}"
  if call.masks - {"causal"} and (call.queries % 2 or call.keys % 2):
    return f"with a mask beside causal, queries and keys must be even; found {call.queries} and {call.keys}"
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
  del bias
  t, s = query.shape[1], key.shape[1]
  only_causal = masks.kinds <= {"causal"}
  seen = None if only_causal else visible(masks, t, s)
  seen = None if seen is None else jnp.broadcast_to(seen, (seen.shape[0], t, s))
  x = jax.nn.dot_product_attention(
    query, key, value, mask=None if seen is None else seen[:, None], scale=scale,
    is_causal=masks.causal and only_causal, implementation="cudnn",
  )  # fmt: skip
  if seen is None:
    return x
  return jnp.where(seen.any(-1)[:, :, None, None], x, 0)
