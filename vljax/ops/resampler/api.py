"""The one entry point of a resampler's attention, and the choice of what runs it."""

from typing import Any

from jaxtyping import Array, Bool, Float

from vljax import config
from vljax.ops.attention.call import Call, Device
from vljax.ops.resampler import fused, joined, reference

IMPLEMENTATIONS = {"reference": reference, "joined": joined, "fused": fused}
"""Name to module with `refusal(call) -> reason or None` and `attend`."""

Pair = tuple[Float[Array, "*b s k d"], Float[Array, "*b s k d"]]
"""Keys and values."""


def resample(
  query: Float[Array, "*b l k d"],
  media: Pair,
  latents: Pair,
  *,
  key_padding: Bool[Array, "*b s"] | None = None,
  scale: float | None = None,
  implementation: str | None = None,
) -> Float[Array, "*b l k d"]:
  """softmax(scale * query [media; latents]^T) [media; latents]: latents attend to media and to themselves.

  The cross-attention of Flamingo's Perceiver Resampler (arXiv 2204.14198, appendix A.1.1), whose keys and values come
  from the concatenation of both. They are given apart here, since a projection of a concatenation is the
  concatenation of projections, and it need not be made. The softmax over both is one, in float32.

  Args:
    media, latents: keys and values of either, [*b s k d] and [*b l k d].
    key_padding: which of the media's keys are real; the latents always are.
    scale: 1 / sqrt(d) by default.
    implementation: a key of IMPLEMENTATIONS; None picks by platform, dtype, shape and masks.

  Raises:
    ValueError: the shapes do not fit, an unknown implementation, or one that cannot run this call here.
  """
  _check(query, media, latents)
  lead = query.shape[:-3]
  flat = lambda x, n: x.reshape(-1, *x.shape[x.ndim - n :])
  query = flat(query, 3)
  media, latents = (tuple(flat(x, 3) for x in pair) for pair in (media, latents))
  padding = None if key_padding is None else flat(key_padding, 1)
  (b, n, k, d), keys = query.shape, media[0].shape[1] + latents[0].shape[1]
  masks = frozenset() if padding is None else frozenset(["key_padding"])
  call = Call(Device.current(), query.dtype.name, b, n, keys, k, k, d, masks)
  scale = d**-0.5 if scale is None else scale
  x = IMPLEMENTATIONS[choose(call, implementation)].attend(query, media, latents, padding, scale)
  return x.reshape(*lead, *x.shape[1:])


def choose(call: Call, implementation: str | None = None) -> str:
  """The implementation that runs a call: the named one, else a fused kernel where there is one, else `joined`.

  Raises:
    ValueError: an unknown name, or the named implementation refuses the call.
  """
  if implementation is None:
    return "joined" if fused.refusal(call) else "fused"
  module: Any = config.choose("resampler implementation", implementation, IMPLEMENTATIONS)
  reason = module.refusal(call)
  if reason:
    raise ValueError(f"resampler implementation {implementation!r} cannot run here: {reason}")
  return implementation


def _check(query: Array, media: Pair, latents: Pair) -> None:
  shapes = (
    f"query {query.shape}, media {media[0].shape} {media[1].shape}, latents {latents[0].shape} {latents[1].shape}"
  )
  if query.ndim < 4 or any(key.shape != value.shape or key.ndim != query.ndim for key, value in (media, latents)):
    raise ValueError(
      f"resample takes query [*b l k d], keys and values [*b s k d] of media and latents; found {shapes}"
    )
  apart = lambda x: (x.shape[:-3], x.shape[-2:])
  if any(apart(key) != apart(query) for key, _ in (media, latents)):
    raise ValueError(f"query and keys differ in batch, heads or head dimension: {shapes}")
