"""Which of an endpoint's waiting deliveries go out next."""

from __future__ import annotations

import pytest

from delivery.claim import HEAD_START_US, Waiting
from delivery.rows import DeliveryRow
from delivery.schema import LANE_AGAIN, LANE_FIRST, LANE_IN_FLIGHT

NOW_US = 1_760_000_000_000_000


def row(
    number: int, lane: int, *, due_us: int = -1, attempts: int | None = None, trigger: str = "scheduled"
) -> DeliveryRow:
    """Return a delivery due so many microseconds from now."""
    return DeliveryRow(
        id=f"d{number}", endpoint_id="p", event_id="e", event_type="entry.posted", sequence=number,
        endpoint_sequence=number, state="pending", reason=None,
        attempts=(lane != LANE_FIRST) if attempts is None else attempts, failures=0, trigger=trigger,
        due_at=NOW_US + due_us, lane=lane, generation=0, claimed_at=None, delivered_at=None, created_at=0, updated_at=0,
    )  # fmt: skip


def picked(rows: list[DeliveryRow], max_in_flight: int, places: int = 1000) -> list[int]:
    """Return the numbers of what is sent now."""
    return [one.endpoint_sequence for one in Waiting.sort(rows, NOW_US).pick(max_in_flight, places)]


def test_first_attempts_go_in_their_order() -> None:
    """What is due at one time goes by endpoint sequence."""
    assert picked([row(3, LANE_FIRST), row(1, LANE_FIRST), row(2, LANE_FIRST)], 2) == [1, 2]


def test_live_leases_count_against_the_limit() -> None:
    """No more is in flight than may be, whoever sends it."""
    live = [row(number, LANE_IN_FLIGHT, due_us=5) for number in range(3)]
    assert picked([*live, *[row(number, LANE_FIRST) for number in range(10, 20)]], 4) == [10]
    assert picked([*live, row(10, LANE_FIRST)], 3) == []


def test_free_places_limit_too() -> None:
    """The process has only so many connections."""
    assert picked([row(1, LANE_FIRST), row(2, LANE_FIRST)], 16, places=1) == [1]
    assert picked([row(1, LANE_FIRST)], 16, places=0) == []


def test_lease_that_ran_out_is_sent_again() -> None:
    """A crashed sender's delivery is due, and no longer in flight."""
    assert picked([row(1, LANE_IN_FLIGHT, due_us=0)], 1) == [1]


@pytest.mark.parametrize("max_in_flight", [4, 16, 100])
def test_retries_take_at_most_a_quarter_while_first_attempts_wait(max_in_flight: int) -> None:
    """A backlog of retries or replays does not hold up what is new, and is not held up for ever."""
    again = [row(number, LANE_AGAIN, due_us=-100) for number in range(200)]
    first = [row(number, LANE_FIRST) for number in range(1000, 1200)]
    got = picked([*again, *first], max_in_flight)
    assert len(got) == max_in_flight
    assert sum(number < 1000 for number in got) == max_in_flight // 4


def test_running_retries_count_towards_their_quarter() -> None:
    """The share holds over time, not for each claim anew."""
    running = [row(number, LANE_IN_FLIGHT, due_us=5, attempts=2) for number in range(4)]
    again = [row(number, LANE_AGAIN) for number in range(10, 20)]
    first = [row(number, LANE_FIRST) for number in range(100, 200)]
    assert all(number >= 100 for number in picked([*running, *again, *first], 16))


def test_retries_take_everything_when_nothing_is_new() -> None:
    """Unused room is not kept back."""
    assert picked([row(number, LANE_AGAIN) for number in range(9)], 16) == list(range(9))


def test_narrow_endpoint_serves_first_attempts_before_late_retries() -> None:
    """With one place, a retry waits behind first attempts for as long as the head start and then has its turn."""
    assert picked([row(1, LANE_AGAIN, due_us=-1000), row(2, LANE_FIRST)], 1) == [2]
    assert picked([row(1, LANE_AGAIN, due_us=-HEAD_START_US - 1000), row(2, LANE_FIRST)], 1) == [1]
