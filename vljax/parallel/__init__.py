"""The device mesh, the rules that lay arrays on it, and the way of host data onto it."""

from vljax.parallel.rules import DEFAULT, Axis, constrain, sharding, use

__all__ = ["DEFAULT", "Axis", "constrain", "sharding", "use"]
