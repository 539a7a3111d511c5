"""When failing is told and when it ends in disabling."""

from __future__ import annotations

import pytest

from delivery.failing import FIRST, next_warning, percent_failed

DAY_US = 86_400_000_000


@pytest.mark.parametrize(("days", "percent"), [(0, 0), (2.5, 50), (3.49, 69), (3.5, 70), (5, 100), (50, 100), (-1, 0)])
def test_share_is_of_the_time_after_which_it_is_disabled(days: float, percent: int) -> None:
    """Whole per cent, never more than all of it, never less than nothing if a clock was set back."""
    assert percent_failed(10 * DAY_US, 10 * DAY_US + round(days * DAY_US), 5 * 86_400) == percent


@pytest.mark.parametrize(
    ("told", "percent", "failed_enough", "expected"),
    [
        (0, 0, False, None),
        (0, 0, True, FIRST),
        (FIRST, 49, True, None),
        (FIRST, 50, False, 50),
        (50, 69, True, None),
        (50, 95, True, 90),
        (90, 100, True, None),
        (0, 72, False, 70),
    ],
)
def test_each_mark_is_told_once(told: int, percent: int, failed_enough: bool, expected: int | None) -> None:
    """The highest mark that was reached and not told yet; before the marks, once that it is failing at all."""
    assert next_warning(told, percent, failed_enough=failed_enough) == expected
