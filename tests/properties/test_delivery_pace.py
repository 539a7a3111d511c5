"""The rate of an endpoint, for any rate and any moments at which somebody claims."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from delivery.pace import AHEAD_US, after_slot, free_slots

NOW_US = 1_760_000_000_000_000


@given(
    st.integers(min_value=1, max_value=1000),
    st.lists(
        st.tuples(st.integers(min_value=0, max_value=900_000), st.integers(min_value=1, max_value=300)), max_size=30
    ),
)
def test_in_no_second_do_more_begin_than_the_rate_says(rate: int, claims: list[tuple[int, int]]) -> None:
    """However many claim, whenever, and however much they want: every window of a second is within the rate."""
    now_us, next_at = NOW_US, None
    taken: list[int] = []
    for passed_us, wanted in claims:
        now_us += passed_us
        slots = free_slots(next_at, rate, now_us)[:wanted]
        assert all(now_us <= slot <= now_us + AHEAD_US for slot in slots)
        taken += slots
        if slots:
            next_at = after_slot(slots[-1], rate)
    assert taken == sorted(taken)
    assert all(later - earlier >= 1_000_000 for earlier, later in zip(taken, taken[rate:], strict=False))


@given(st.integers(min_value=1, max_value=1000))
def test_whoever_takes_all_there_is_gets_the_rate(rate: int) -> None:
    """Nothing is given away: in ten seconds, ten times the rate, but for what rounding up to a microsecond costs."""
    now_us, next_at, count = NOW_US, None, 0
    while now_us < NOW_US + 10_000_000:
        for slot in free_slots(next_at, rate, now_us):
            if slot < NOW_US + 10_000_000:
                count += 1
            next_at = after_slot(slot, rate)
        now_us += 100_000
    assert 0.998 * 10 * rate <= count <= 10 * rate
