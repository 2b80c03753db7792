"""Attention with masks given by meaning, on whatever runs it best."""

from vljax.ops.attention.api import IMPLEMENTATIONS, attention, choose
from vljax.ops.attention.cache import Cache
from vljax.ops.attention.call import Call
from vljax.ops.attention.media import media_attention

__all__ = ["IMPLEMENTATIONS", "Cache", "Call", "attention", "choose", "media_attention"]
