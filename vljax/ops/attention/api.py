"""The one entry point of attention, and the choice of what runs it."""

from typing import Any

from jaxtyping import Array, Bool, Float, Int

from vljax import config
from vljax.ops.attention import cudnn, reference, tokamax, xla
from vljax.ops.attention.call import Call, Device
from vljax.ops.attention.masks import Masks

IMPLEMENTATIONS = {"reference": reference, "xla": xla, "cudnn": cudnn, "tokamax": tokamax}
"""Name to module with `refusal(call) -> reason or None` and `attend`."""

PREFERRED = {"gpu": ("cudnn", "tokamax"), "tpu": ("tokamax",)}
"""What is tried before `xla`, by platform."""

LONG = 1024
"""Queries from which a fused kernel beats XLA's matmuls on TPUs; the sequences of image towers are shorter."""


def attention(
  query: Float[Array, "*b t k d"],
  key: Float[Array, "*b s g d"],
  value: Float[Array, "*b s g d"],
  *,
  causal: bool = False,
  bias: Float[Array, "..."] | None = None,
  key_padding: Bool[Array, "*b s"] | None = None,
  segments: Int[Array, "*b t"] | tuple[Int[Array, "*b t"], Int[Array, "*b s"]] | None = None,
  media: tuple[Int[Array, "*b t"], Int[Array, "*b s"]] | None = None,
  media_first: Int[Array, "*b t"] | None = None,
  offset: int | Int[Array, ""] | Int[Array, "b"] = 0,
  scale: float | None = None,
  implementation: str | None = None,
) -> Float[Array, "*b t k d"]:
  """softmax(scale * query key^T + bias) value (arXiv 1706.03762), over the keys that all masks let a query see.

  The softmax is computed in float32. A row that sees no key gives zeros, with zero gradients. k query heads may share
  g key heads, k / g in a row each (arXiv 2305.13245).

  Args:
    causal: query i sees the keys up to position offset + i.
    bias: added to the scores, broadcastable to [b k t s].
    key_padding: which keys are real.
    segments: ids; a query sees the keys of its own segment. One array serves queries and keys.
    media: for each query the number of its medium, for each key the number of its own; 0 sees nothing. Where each
      medium has as many keys, `media_attention` is faster.
    media_first: for each query the first medium that it sees: it sees all from that one to its own.
    offset: keys before query 0, as `Cache.offset` says; one for all or one for each example.
    scale: 1 / sqrt(d) by default.
    implementation: a key of IMPLEMENTATIONS; None picks by platform, dtype, shape and masks.

  Raises:
    ValueError: the shapes do not fit, an unknown implementation, or one that cannot run this call here.
  """
  _check(query, key, value)
  lead = query.shape[:-3]
  flat = lambda x, n: None if x is None else x.reshape(-1, *x.shape[x.ndim - n :])
  pair = lambda m: None if m is None else (flat(m[0], 1), flat(m[1], 1))
  segments = (segments, segments) if segments is not None and not isinstance(segments, tuple) else segments
  masks = Masks(causal, offset, flat(key_padding, 1), pair(segments), pair(media), flat(media_first, 1))
  bias = flat(bias, 3) if bias is not None and bias.ndim > 4 else bias
  query, key, value = (flat(x, 3) for x in (query, key, value))
  call = Call(
    Device.current(), query.dtype.name, query.shape[0], query.shape[1], key.shape[1], query.shape[2], key.shape[2],
    query.shape[3], masks.kinds, bias is not None,
  )  # fmt: skip
  scale = query.shape[-1] ** -0.5 if scale is None else scale
  x = IMPLEMENTATIONS[choose(call, implementation)].attend(query, key, value, bias, masks, scale)
  return x.reshape(*lead, *x.shape[1:])


def choose(call: Call, implementation: str | None = None) -> str:
  """The implementation that runs a call: the named one, or the first preferred one that does not refuse.

  Raises:
    ValueError: an unknown name, or the named implementation refuses the call.
  """
  if implementation is not None:
    module: Any = config.choose("attention implementation", implementation, IMPLEMENTATIONS)
    reason = module.refusal(call)
    if reason:
      raise ValueError(f"attention implementation {implementation!r} cannot run here: {reason}")
    return implementation
  if call.device.platform == "tpu" and call.queries < LONG:
    return "xla"
  for name in PREFERRED.get(call.device.platform, ()):
    if IMPLEMENTATIONS[name].refusal(call) is None and not (name == "cudnn" and call.masks - {"causal"}):
      return name
  return "xla"


def _check(query: Array, key: Array, value: Array) -> None:
  shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
  if query.ndim < 4 or key.ndim != query.ndim or key.shape != value.shape:
    raise ValueError(f"attention takes query [*b t k d], key and value [*b s g d]; found {shapes}")
  if query.shape[:-3] != key.shape[:-3] or query.shape[-1] != key.shape[-1]:
    raise ValueError(f"query and key differ in batch or head dimension: {shapes}")
  if query.shape[-2] % key.shape[-2]:
    raise ValueError(f"{query.shape[-2]} query heads are no multiple of {key.shape[-2]} key heads: {shapes}")
