"""Evaluation: functions of features and predict functions, never of a model, and their schedule."""

from vljax.evaluate.schedule import Eval, run

__all__ = ["Eval", "run"]
