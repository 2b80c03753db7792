"""Evaluation: functions of features and predict functions, never of a model, and their schedule."""

from vljax.evaluate.schedule import Eval, due, run

__all__ = ["Eval", "due", "run"]
