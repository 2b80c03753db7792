import numpy as np
import pytest

from vljax.train.schedules import Schedule, build


def rates(steps, at, **fields):
  rate = build(Schedule(lr=2.0, **fields), steps)
  return [float(rate(step)) for step in at]


def test_warm_up_reaches_the_peak_at_its_last_step():
  np.testing.assert_allclose(rates(100, [0, 4, 9, 10, 50], name="constant", warmup=10), [0.2, 1.0, 2.0, 2.0, 2.0])


def test_cosine():
  found = rates(110, [9, 10, 60, 110, 120], name="cosine", warmup=10, final=0.1)
  np.testing.assert_allclose(found, [2.0, 2.0, 1.1, 0.2, 0.2], rtol=1e-6)


def test_warmup_stable_decay():
  found = rates(100, [0, 1, 50, 80, 90, 100], name="wsd", warmup=2, decay=0.2, final=0.5)
  np.testing.assert_allclose(found, [1.0, 2.0, 2.0, 2.0, 1.5, 1.0], rtol=1e-6)
  assert rates(100, [98], name="wsd", decay=0.0) == [2.0]


def test_rsqrt():
  np.testing.assert_allclose(
    rates(10_000, [0, 100, 400, 1600], name="rsqrt", timescale=100), [2.0, 2.0, 1.0, 0.5], rtol=1e-6
  )


def test_warm_up_longer_than_the_run():
  with pytest.raises(ValueError, match=r"^config.schedule.warmup = 11 is more than config.steps = 10$"):
    build(Schedule(warmup=11), 10)


@pytest.mark.parametrize("fields", [dict(warmup=-5), dict(name="wsd", decay=2.0), dict(lr=float("nan"))])
def test_a_schedule_in_python_is_checked_as_in_a_config(fields):
  with pytest.raises(ValueError, match=r"^config.schedule.\w+ = .*; legal: "):
    Schedule(**fields)


def test_the_peak_follows_the_batch():
  assert Schedule(lr=0.3, scaling="linear").peak(4096) == pytest.approx(4.8)  # SimCLR's two rules meet at 4096
  assert Schedule(lr=0.075, scaling="sqrt").peak(4096) == pytest.approx(4.8)
  assert Schedule(lr=0.3).peak(4096) == 0.3
  rate = build(Schedule(name="constant", lr=0.3, scaling="linear"), 10, batch=512)
  assert float(rate(5)) == pytest.approx(0.6)
