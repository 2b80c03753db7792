"""Attention as it is written on paper, in float32: what the other implementations are held against."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax.ops.attention.call import Call
from vljax.ops.attention.masks import Masks, visible


def refusal(call: Call) -> str | None:
  """It takes everything."""
  del call


def attend(
  query: Float[Array, "b t k d"],
  key: Float[Array, "b s g d"],
  value: Float[Array, "b s g d"],
  bias: Float[Array, "..."] | None,
  masks: Masks,
  scale: float,
) -> Float[Array, "b t k d"]:
  """softmax(scale * query key^T + bias) value over the visible keys; a row that sees none gives zeros."""
  value = jnp.repeat(value, query.shape[2] // value.shape[2], axis=2).astype(jnp.float32)
  return jnp.einsum("bkts,bskd->btkd", weights(query, key, bias, masks, scale), value).astype(query.dtype)


def weights(
  query: Float[Array, "b t k d"],
  key: Float[Array, "b s g d"],
  bias: Float[Array, "..."] | None,
  masks: Masks,
  scale: float,
) -> Float[Array, "b k t s"]:
  """softmax(scale * query key^T + bias) over the visible keys: what an attention map shows."""
  key = jnp.repeat(key, query.shape[2] // key.shape[2], axis=2).astype(jnp.float32)
  scores = scale * jnp.einsum("btkd,bskd->bkts", query.astype(jnp.float32), key)
  scores = scores if bias is None else scores + bias
  seen = visible(masks, query.shape[1], key.shape[1])
  seen = jnp.ones((1, 1, 1), bool) if seen is None else seen
  top = jnp.max(scores, axis=-1, keepdims=True, where=seen[:, None], initial=-1e30)
  raised = jnp.where(seen[:, None], jnp.exp(jnp.where(seen[:, None], scores - top, 0.0)), 0.0)
  total = raised.sum(-1, keepdims=True)
  return raised / jnp.where(total == 0, 1.0, total)
