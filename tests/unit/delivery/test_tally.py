"""Attempts counted by class of duration, and the quantiles that are read from the counts."""

from __future__ import annotations

from delivery.tally import BOUNDS_MS, HOUR_US, quantile_ms, tally


def test_attempts_are_counted_by_outcome_and_by_duration() -> None:
    """A duration on a bound belongs to that bound's class; one beyond all bounds to the last."""
    found = tally("e", 7 * HOUR_US + 5, [(True, 0), (True, 10), (False, 11), (False, 10**9)])
    assert (found.hour, found.attempts, found.delivered, found.failed) == (7, 4, 2, 2)
    assert found.durations == (2, 1, *[0] * (len(BOUNDS_MS) - 2), 1)


def test_a_quantile_is_the_bound_of_its_class() -> None:
    """The 95th of a hundred attempts decides; without attempts there is no quantile."""
    classes = len(BOUNDS_MS) + 1
    assert quantile_ms([0] * classes, 0.95) is None
    assert quantile_ms([94, 6, *[0] * (classes - 2)], 0.95) == BOUNDS_MS[1]
    assert quantile_ms([95, 5, *[0] * (classes - 2)], 0.95) == BOUNDS_MS[0]
    assert quantile_ms([*[0] * (classes - 1), 1], 0.5) == 2 * BOUNDS_MS[-1]
