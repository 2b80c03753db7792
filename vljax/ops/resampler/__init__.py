"""Attention of a resampler's latents to media and to themselves, on whatever runs it best."""

from vljax.ops.resampler.api import IMPLEMENTATIONS, choose, resample

__all__ = ["IMPLEMENTATIONS", "choose", "resample"]
