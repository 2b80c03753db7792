"""The projections of attention to something else."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from vljax import tree
from vljax.layers.cross_attention import CrossAttention

X = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)
CONTEXT = np.random.default_rng(1).normal(size=(2, 4, 5, 6)).astype(np.float32)


class Everything(nn.Module):
  """All that a CrossAttention gives."""

  part: CrossAttention

  def __call__(self, x, context):
    return self.part.queries(x), *self.part.keys_values(context), self.part.merge(self.part.queries(x))


def made(qk_norm="none"):
  model = Everything(CrossAttention(8, 2, 3, qk_norm))
  out, variables = model.init_with_output(jax.random.key(0), X, CONTEXT)
  return out, variables["params"]["part"]


def test_projections():
  (query, key, value, merged), params = made()
  p = tree.flatten(nn.meta.unbox(params))
  assert set(p) == {f"{name}/kernel" for name in ("query", "key", "value", "out")}
  np.testing.assert_allclose(query, np.einsum("btd,dkc->btkc", X, p["query/kernel"]), atol=1e-5)
  np.testing.assert_allclose(key, np.einsum("bnsd,dkc->bnskc", CONTEXT, p["key/kernel"]), atol=1e-5)
  np.testing.assert_allclose(value, np.einsum("bnsd,dkc->bnskc", CONTEXT, p["value/kernel"]), atol=1e-5)
  np.testing.assert_allclose(merged, np.einsum("btkc,kcd->btd", query, p["out/kernel"]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("qk_norm", "leaves"), [("layer", {"scale", "bias"}), ("rms", {"scale"})])
def test_norms_of_queries_and_keys(qk_norm, leaves):
  (query, key, value, _), params = made(qk_norm)
  assert {name: set(params[name]) for name in params if "norm" in name} == dict.fromkeys(
    ("query_norm", "key_norm"), leaves
  )
  for x in (query, key):
    np.testing.assert_allclose(np.square(x).mean(-1), 1, atol=1e-2)
  plain = made()[0]
  np.testing.assert_allclose(value, plain[2], atol=1e-6)


def test_an_unknown_norm_names_the_nearest():
  with pytest.raises(ValueError, match="unknown qk_norm 'layr'; did you mean 'layer'"):
    made("layr")
