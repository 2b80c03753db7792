"""Contrastive losses over a batch of pairs, which need not hold the matrix of all its scores."""

from vljax.objectives.contrastive.choice import IMPLEMENTATIONS
from vljax.objectives.contrastive.sigmoid import sigmoid_contrastive
from vljax.objectives.contrastive.softmax import softmax_contrastive

__all__ = ["IMPLEMENTATIONS", "sigmoid_contrastive", "softmax_contrastive"]
