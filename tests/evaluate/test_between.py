import numpy as np
import pytest

from vljax.evaluate.between import between


def test_recall_chance_and_the_lower_end():
  eye = np.eye(20, dtype=np.float32)
  right = between(eye, eye, range(20))
  assert (right["R@1"], right["R@1/chance"], right["R@1/low"]) == (1.0, 0.05, 1.0)
  wrong = between(eye, np.roll(eye, 1, axis=0), range(20))
  assert wrong["R@10"] == 0, "ties count against us"
  half = between(eye, np.where(np.arange(20)[:, None] < 10, eye, 0), range(20))
  assert half["R@1"] == 0.5
  assert 0.2 < half["R@1/low"] < 0.4


def test_groups_are_drawn_as_wholes():
  eye = np.eye(40, dtype=np.float32)
  answers = np.where(np.arange(40)[:, None] < 20, eye, 0)
  alone = between(eye, answers, range(40))["R@1/low"]
  together = between(eye, answers, np.arange(40) // 10)["R@1/low"]
  assert together < alone
  with pytest.raises(ValueError, match="40 queries, 40 answers, 3 groups"):
    between(eye, eye, range(3))
