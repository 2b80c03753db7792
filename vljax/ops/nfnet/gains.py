"""Gains of activations that keep the variance of a standard normal input."""

GAINS = {
  "identity": 1.0,
  "gelu": 1.7015043497085571,
  "gelu_tanh": 1.7015043497085571,
  "relu": 1.7139588594436646,
  "silu": 1.7881293296813965,
}
"""gamma = 1 / std(f(x)) for x ~ N(0, 1), by the name of f in `layers.mlp` (NFNet, arXiv 2102.06171, section 2).

They are the released estimates from samples, within 0.1 % of the integrals, since the released weights were trained
with them; timm takes the gain of the approximated GELU for the exact one, too.
"""
