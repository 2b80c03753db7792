"""How the table prints its numbers."""

from vljax import report


def test_rates_are_percent_and_the_rest_is_not():
  assert report.Score("R@1", 0.123, 0.01).show(0.123) == "12.3 %"
  rank = report.Score("rank", 12.0)
  assert not rank.is_rate
  assert rank.show(rank.value) == "12"


def test_what_is_missing_is_a_dash():
  assert report.Score("rank", 12.0).show(None) == "–"
  assert report.Score("rank", 12.0).show(float("nan")) == "–"
