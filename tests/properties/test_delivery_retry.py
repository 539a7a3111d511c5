"""Retry rules over all inputs: bounded, monotone, exhausted exactly at the end, never early."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from delivery.retry import (
    DEFAULT_SCHEDULE_S,
    OUR_DELAY_MAX_S,
    OUR_FAILURES,
    Exhausted,
    Failure,
    History,
    Reply,
    Retry,
    judge,
    parse_retry_after,
)

NOW_US = 1_760_000_000_000_000
CHANCES = st.floats(min_value=0, max_value=1, exclude_max=True)
SCHEDULES = st.lists(st.integers(0, 604_800), min_size=1, max_size=32)


@given(schedule=SCHEDULES, chance=CHANCES, ours=st.integers(0, 50))
def test_schedule_is_used_up_by_exactly_its_length(schedule: list[int], chance: float, ours: int) -> None:
    """As many attempts as the schedule has waits, failures of ours between them not counted; each within its jitter."""
    for failures in range(len(schedule)):
        history = History(attempts=failures + ours, failures=failures)
        outcome = judge(Reply(status=500), history, schedule, now_us=NOW_US, chance=chance)
        if failures + 1 == len(schedule):
            assert isinstance(outcome, Exhausted)
        else:
            assert isinstance(outcome, Retry)
            planned_us = schedule[failures + 1] * 1_000_000
            assert 0.8 * planned_us - 1 <= outcome.after_us <= 1.2 * planned_us + 1


@given(chance=CHANCES)
def test_default_waits_never_shorten_with_the_same_jitter(chance: float) -> None:
    """Later attempts wait at least as long as earlier ones."""
    waits = []
    for failures in range(len(DEFAULT_SCHEDULE_S) - 1):
        history = History(attempts=failures, failures=failures)
        outcome = judge(Failure(error_class="timeout"), history, DEFAULT_SCHEDULE_S, now_us=NOW_US, chance=chance)
        assert isinstance(outcome, Retry)
        waits.append(outcome.after_us)
    assert waits == sorted(waits)


@given(
    error_class=st.sampled_from(sorted(OUR_FAILURES)),
    attempts=st.integers(0, 10**6),
    schedule=SCHEDULES,
    chance=CHANCES,
    data=st.data(),
)
def test_failures_of_ours_wait_and_cost_nothing(
    error_class: str, attempts: int, schedule: list[int], chance: float, data: st.DataObject
) -> None:
    """Whatever the history, the answer is a bounded wait that is not charged."""
    failures = data.draw(st.integers(0, min(attempts, len(schedule) - 1)))
    history = History(attempts=attempts, failures=failures)
    outcome = judge(Failure(error_class=error_class), history, schedule, now_us=NOW_US, chance=chance)
    assert isinstance(outcome, Retry)
    assert not outcome.charged
    assert 0 < outcome.after_us <= 1.2 * OUR_DELAY_MAX_S * 1_000_000


@given(text=st.text())
def test_any_retry_after_is_a_bounded_wait_or_nothing(text: str) -> None:
    """No header text raises, and none asks for less than a second or more than a day."""
    seconds = parse_retry_after(text, NOW_US)
    assert seconds is None or 1 <= seconds <= 86_400


@given(seconds=st.integers(1, 86_400), chance=CHANCES)
def test_asked_wait_is_never_undercut(seconds: int, chance: float) -> None:
    """Jitter does not make us come before the endpoint said."""
    reply = Reply(status=503, retry_after=str(seconds))
    outcome = judge(reply, History(attempts=0, failures=0), DEFAULT_SCHEDULE_S, now_us=NOW_US, chance=chance)
    assert isinstance(outcome, Retry)
    assert outcome.after_us == seconds * 1_000_000
