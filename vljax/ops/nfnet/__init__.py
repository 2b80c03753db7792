"""What networks without norms are made of: standardized kernels, grouped convolutions, gains of activations."""

from vljax.ops.nfnet.api import IMPLEMENTATIONS, choose, conv
from vljax.ops.nfnet.gains import GAINS
from vljax.ops.nfnet.kernels import EPSILONS, standardize

__all__ = ["EPSILONS", "GAINS", "IMPLEMENTATIONS", "choose", "conv", "standardize"]
