"""What error classes mean, and spans of time in words."""

from __future__ import annotations

import pytest

from delivery.retry import BY_ENDPOINT, OUR_FAILURES
from delivery.subscriptions import SKIPPED_DELETED, SKIPPED_DISABLED
from gateway.portal.words import ERRORS, REASONS, meaning, since


def test_every_error_class_and_reason_has_words() -> None:
    """Whoever reads why a delivery failed or waits is told what it means; what nobody knows is told without words."""
    for known in (*OUR_FAILURES, BY_ENDPOINT, SKIPPED_DELETED, SKIPPED_DISABLED, "circuit_open", *ERRORS, *REASONS):
        assert meaning(known), known
    assert (meaning(None), meaning("never_heard_of")) == ("", "")


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("2026-11-21T10:00:00.012400Z", "+12 ms"),
        ("2026-11-21T10:00:05.000000Z", "+5 s"),
        ("2026-11-21T10:00:05.250000Z", "+5.2 s"),
        ("2026-11-21T10:05:00.000000Z", "+5 min"),
        ("2026-11-21T12:00:00.000000Z", "+2 h"),
        ("2026-11-23T10:00:00.000000Z", "+2.0 d"),
        ("2026-11-21T09:59:00.000000Z", "−1 min"),
        ("2026-11-21T10:00:00.000000Z", "+0 ms"),
    ],
)
def test_a_span_is_told_in_the_unit_that_fits(at: str, said: str) -> None:
    """From milliseconds to days, and backwards."""
    assert since(at, "2026-11-21T10:00:00.000000Z") == said
