"""Which deliveries go out next and how many at once, for any mixture of what waits and any history of answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from delivery.breaker import REST_MAX_US, STRIKES_TO_OPEN, TAKEN_BACK, WINDOW_NEW, Circuit
from delivery.claim import AGAIN_SHARE, Waiting
from delivery.rows import DeliveryRow
from delivery.schema import LANE_AGAIN, LANE_FIRST, LANE_IN_FLIGHT

NOW_US = 1_760_000_000_000_000


@st.composite
def waiting_rows(draw: st.DrawFn) -> list[DeliveryRow]:
    """Draw what one endpoint has: leases alive and run out, first attempts, attempts to be made again."""
    kinds = draw(
        st.lists(
            st.tuples(
                st.sampled_from([LANE_IN_FLIGHT, LANE_FIRST, LANE_AGAIN]),
                st.integers(min_value=-60_000_000, max_value=60_000_000),
                st.booleans(),
            ),
            max_size=80,
        ),
    )
    return [
        DeliveryRow(
            id=f"d{number}", endpoint_id="p", event_id="e", event_type="entry.posted", sequence=number,
            endpoint_sequence=number, state="pending", reason=None, attempts=int(lane != LANE_FIRST) + again,
            failures=0, trigger="scheduled", due_at=NOW_US + (due if lane == LANE_IN_FLIGHT else -abs(due)), lane=lane,
            generation=0, claimed_at=None, delivered_at=None, created_at=0, updated_at=0,
        )
        for number, (lane, due, again) in enumerate(kinds)
    ]  # fmt: skip


@given(waiting_rows(), st.integers(min_value=0, max_value=64), st.integers(min_value=0, max_value=64))
def test_never_more_than_there_is_room_for_and_never_less_than_there_could_be(
    rows: list[DeliveryRow], limit: int, places: int
) -> None:
    """Room is used exactly: all of it or all that waits, nothing twice, and what runs already counts."""
    waiting = Waiting.sort(rows, NOW_US)
    picked = waiting.pick(limit, places)
    room = max(0, min(limit - len(waiting.live), places))
    assert len(picked) == min(room, len(rows) - len(waiting.live))
    assert len({row.id for row in picked}) == len(picked)
    assert not {row.id for row in picked} & {row.id for row in waiting.live}


@given(waiting_rows(), st.integers(min_value=AGAIN_SHARE, max_value=64))
def test_first_attempts_go_before_what_is_sent_again_but_for_its_share(rows: list[DeliveryRow], limit: int) -> None:
    """While a first attempt is left waiting, what is sent again has at most a quarter of the places, running ones counted."""
    waiting = Waiting.sort(rows, NOW_US)
    picked = waiting.pick(limit, 1000)
    first = [row for row in picked if row.lane == LANE_FIRST]
    again = [row for row in picked if row.lane != LANE_FIRST]
    if len(first) < len(waiting.first) and again:
        running = sum(row.attempts > 1 for row in waiting.live)
        assert running + len(again) <= limit // AGAIN_SHARE
    assert [row.due_at for row in first] == sorted(row.due_at or 0 for row in first)


answers = st.lists(
    st.tuples(st.booleans(), st.integers(min_value=0, max_value=400_000_000), st.integers(min_value=0, max_value=40_000_000)),
    max_size=200,
)  # fmt: skip


@given(answers, st.integers(min_value=1, max_value=256), st.floats(min_value=0, max_value=1, exclude_max=True))
def test_circuit_never_trusts_too_much_and_always_comes_back(
    story: list[tuple[bool, int, int]], max_in_flight: int, chance: float
) -> None:
    """Whatever happened: the limit is kept, the rest is bounded, and successes bring back the full width."""
    circuit, now_us, strikes = Circuit(), NOW_US, 0
    for good, passed_us, took_us in story:
        now_us += passed_us
        was_open = circuit.probe_at is not None
        if good:
            circuit = circuit.succeeded(max_in_flight)
            strikes = 0 if was_open else max(0, strikes - TAKEN_BACK)
            assert circuit.probe_at is None
        else:
            circuit = circuit.failed(now_us - took_us, now_us=now_us, chance=chance)
            strikes += 1
            assert was_open or (circuit.probe_at is not None) == (strikes >= STRIKES_TO_OPEN)
        assert 0 <= circuit.limit(max_in_flight, now_us) <= max_in_flight
        if circuit.probe_at is not None:
            assert circuit.probe_at <= now_us + REST_MAX_US * 11 // 10
            assert circuit.limit(max_in_flight, circuit.probe_at) == 1
            assert circuit.limit(max_in_flight, circuit.probe_at - 1) == 0
            strikes = 0
    for _ in range(max_in_flight + 1):
        circuit = circuit.succeeded(max_in_flight)
    assert circuit.limit(max_in_flight, now_us) == max(1, max_in_flight)
    assert circuit.window <= max(max_in_flight, WINDOW_NEW)
