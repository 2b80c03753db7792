"""Our own checkpoint format, on Orbax: what a run saves, and all ways to read it."""

from vljax.checkpoint.load import load_params
from vljax.checkpoint.manager import Manager
from vljax.checkpoint.metadata import Metadata

__all__ = ["Manager", "Metadata", "load_params"]
