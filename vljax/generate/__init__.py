"""Text from models: sampling, beam search, and how likely a text is."""

from vljax.generate.beam import search
from vljax.generate.sampling import Sampling
from vljax.generate.speaker import DecoderSpeaker, Inputs, Speaker, State
from vljax.generate.writer import Writer

__all__ = ["DecoderSpeaker", "Inputs", "Sampling", "Speaker", "State", "Writer", "search"]
