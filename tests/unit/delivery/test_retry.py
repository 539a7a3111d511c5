"""What follows from an attempt: which answers count, when the next one is due, what uses up the schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from delivery.retry import (
    DEFAULT_SCHEDULE_S,
    OUR_DELAY_MAX_S,
    OUR_FAILURES,
    Delivered,
    Disabled,
    Exhausted,
    Failure,
    History,
    Reply,
    Retry,
    jittered_us,
    judge,
    parse_retry_after,
)

NOW_US = 1_760_000_000_000_000
FRESH = History(attempts=0, failures=0)


def outcome_of(result: Reply | Failure, history: History = FRESH) -> object:
    """Judge with the default schedule and a jitter that changes nothing."""
    return judge(result, history, DEFAULT_SCHEDULE_S, now_us=NOW_US, chance=0.5)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
def test_any_2xx_is_success(status: int) -> None:
    """The whole range means that the endpoint has it."""
    assert outcome_of(Reply(status=status)) == Delivered()


@pytest.mark.parametrize(
    ("status", "error_class"),
    [(100, "http_1xx"), (301, "http_3xx"), (302, "http_3xx"), (304, "http_3xx"), (307, "http_3xx"), (308, "http_3xx"),
     (400, "http_4xx"), (401, "http_4xx"), (404, "http_4xx"), (429, "http_4xx"), (500, "http_5xx"), (503, "http_5xx")],
)  # fmt: skip
def test_every_other_answer_is_a_failure_of_the_endpoint(status: int, error_class: str) -> None:
    """A redirect is no success either; the first retry comes after five seconds."""
    assert outcome_of(Reply(status=status)) == Retry(after_us=5_000_000, error_class=error_class, charged=True)


def test_gone_disables_and_keeps_the_delivery() -> None:
    """410 disables the endpoint; the delivery goes on along its schedule once somebody enables it."""
    then = Retry(after_us=5_000_000, error_class="gone", charged=True)
    assert outcome_of(Reply(status=410)) == Disabled(error_class="gone", then=then)


def test_default_schedule_is_walked_to_its_end() -> None:
    """Ten attempts: at once, then after each of the published waits, then exhausted."""
    waits = []
    for failures in range(len(DEFAULT_SCHEDULE_S)):
        found = outcome_of(Reply(status=500), History(attempts=failures, failures=failures))
        waits.append(found.after_us // 1_000_000 if isinstance(found, Retry) else found)
    assert waits == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, Exhausted(error_class="http_5xx")]


@pytest.mark.parametrize("error_class", sorted(OUR_FAILURES))
def test_failures_of_ours_are_never_charged_nor_exhausted(error_class: str) -> None:
    """However often our DNS or vault is down, the endpoint keeps its whole schedule."""
    for attempts in (0, 1, 9, 10, 50, 10_000):
        found = outcome_of(Failure(error_class=error_class), History(attempts=attempts, failures=0))
        assert isinstance(found, Retry)
        assert not found.charged
        assert 5_000_000 <= found.after_us <= OUR_DELAY_MAX_S * 1_000_000


@pytest.mark.parametrize(
    "error_class", ["timeout", "connection_failed", "tls", "dns_not_found", "destination_not_allowed"]
)
def test_failures_of_the_endpoint_are_charged(error_class: str) -> None:
    """What the endpoint can mend moves along its schedule."""
    expected = Retry(after_us=5_000_000, error_class=error_class, charged=True)
    assert outcome_of(Failure(error_class=error_class)) == expected


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [("120", 120), (" 7 ", 7), ("0", 1), ("86400", 86400), ("86401", 86400), ("9" * 5000, 86400),
     ("-5", None), ("1.5", None), ("soon", None), ("", None), ("１２", None), ("Fri, 99 Foo 2025", None)],
)  # fmt: skip
def test_retry_after_in_seconds_is_clamped(text: str, expected_s: int | None) -> None:
    """Between one second and a day; what is no number of seconds is as if it were not there."""
    assert parse_retry_after(text, NOW_US) == expected_s


@pytest.mark.parametrize(("ahead_s", "expected_s"), [(90, 90), (-90, 1), (0, 1), (200_000, 86_400)])
def test_retry_after_as_a_date_is_clamped(ahead_s: int, expected_s: int) -> None:
    """An HTTP date counts from now, with the same limits."""
    at = datetime.fromtimestamp(NOW_US / 1_000_000 + ahead_s, tz=UTC)
    assert parse_retry_after(format_datetime(at, usegmt=True), NOW_US) == expected_s


def test_retry_after_is_obeyed_to_the_second() -> None:
    """The endpoint's own word stands in place of the schedule's wait, and no jitter comes early."""
    found = judge(Reply(status=429, retry_after="120"), FRESH, DEFAULT_SCHEDULE_S, now_us=NOW_US, chance=0.0)
    assert found == Retry(after_us=120_000_000, error_class="http_4xx", charged=True)


def test_retry_after_does_not_lengthen_the_schedule() -> None:
    """An endpoint cannot ask for more attempts than there are."""
    last = History(attempts=9, failures=9)
    assert outcome_of(Reply(status=503, retry_after="1"), last) == Exhausted(error_class="http_5xx")


def test_jitter_moves_by_a_fifth_at_most() -> None:
    """The ends of the range are 80 % and just under 120 %."""
    assert jittered_us(100, 0.0) == 80_000_000
    assert jittered_us(100, 0.5) == 100_000_000
    assert jittered_us(100, 0.999999) < 120_000_000
